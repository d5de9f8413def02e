"""The first figures of a report: their explanations, and published values on MovieLens-1M."""

from typing import NamedTuple

MOVIELENS_1M = "ml-1m"
"""The data, by name, that the published figures belong to: leave one out, the whole catalogue ranked."""


class Headline(NamedTuple):
    """A figure of an evaluation, or of another command."""

    key: str
    says: str
    published: str = ""


HEADLINES = (
    Headline(
        "ndcg",
        "NDCG@10 of test events, the whole catalogue ranked, items already seen left out",
        "SASRec+ 0.1821, with 3,000 negatives 0.1857; HSTU-large 0.1893",
    ),
    Headline("hr", "HR@10 of the same", "SASRec+ 0.3152, with 3,000 negatives 0.3159; HSTU-large 0.3294"),
    Headline("minutes_to_017", "minutes of training until test NDCG@10 is 0.17", "prototype 50 to 75"),
    Headline("train_speed_rectools", "training events per second, as a multiple of RecTools' SASRec", "1"),
    Headline("train_speed_pmixer", "the same, as a multiple of pmixer's SASRec", "1"),
    Headline(
        "kept_reconstructed",
        "NDCG@10 when the reconstruction replaces the state, as a share of what it was",
        "From Knots to Knobs 0.91 of recall, in another user's run",
    ),
    Headline(
        "rbo_reconstructed", "agreement of the lists before and after that (RBO, p = 0.9)", "Monosemanticity4Rec 0.76"
    ),
    Headline(
        "corr_item",
        "correlation of the best discovered feature with a value of the item at hand, mean over values, held-out users",
        "0.658, the paper's authors",
    ),
    Headline(
        "corr_item_x_neuron",
        "the same as a multiple of the best neuron's",
        "2.0 on MovieLens-20M, the paper's authors",
    ),
    Headline("corr_list", "the same of the share of a value in the ten items to come", "prototype 0.73"),
    Headline("corr_list_x_neuron", "the same as a multiple of the best neuron's", "prototype 1.8"),
    Headline(
        "anchor_corr_item",
        "correlation of a value's anchored feature with that value of the item at hand, mean over values, held-out users",
    ),
    Headline("anchor_corr_list", "the same with the share of the value in the ten items to come"),
    Headline(
        "one_feature_share_x",
        "what one discovered feature multiplies the share of a value by at 5% of NDCG@10 lost, median over values",
        "1.77 with one Sci-Fi feature, the paper's authors",
    ),
    Headline("one_feature_base_share", "the share of the value before, median over values"),
    Headline(
        "stable",
        "share of live discovered features found again with another seed, at a decoder cosine of 0.7 or more; both seeds begin at the same "
        "centroids, so this tells of the order of training, not of the beginning",
    ),
    Headline("labelled", "share of discovered features with a clear label"),
    Headline("labelled_listed", "the same of those that are active in 0.5% of the states or more"),
    Headline("steerable", "share of discovered features that raise the share of their label's items at strength 1"),
    Headline(
        "contradicting", "labelled discovered features whose label covers less than half of the items they are shown by"
    ),
    Headline("contradicting_of", "labelled discovered features"),
    Headline(
        "feature_rise_quartiles",
        "what strength 1 of a steerable discovered feature adds to its label's share: quartiles",
    ),
    Headline(
        "detection",
        "how well labels of discovered features tell unseen items where the feature is strong (ROC AUC), mean",
    ),
    Headline("anchor_detection", "the same of anchored features"),
    Headline("concept_features", "most features that a concept edits"),
    Headline(
        "concept_strength",
        "strength of a concept's largest edit where it has raised the share by 0.30, mean over test users and values; where it does not "
        "reach that, at the largest share met",
    ),
    Headline("concept_strength_95", "the same, 0.95 quantile over users, mean over values"),
    Headline("concepts_within_2", "share of the values whose concept needs a mean strength of at most 2 there"),
    Headline(
        "sign_agreement",
        "share of a concept's edits, by strength, with the sign of their feature's correlation with the value's share of the list to come",
    ),
    Headline(
        "label_agreement",
        "share of a concept's edits, by strength, to features that correlate with no other value's share of the list to come as well",
    ),
    Headline(
        "concept_rise_quartiles",
        "what strength 1 of a concept adds to its value's share: quartiles",
    ),
    Headline(
        "push_mean",
        "1 - overlap@10 at strength 0.5, mean over concepts and steerable features, test users",
    ),
    Headline("push_cv", "its coefficient of variation over these controls"),
    Headline("push_cv_before", "the same at 0.5 of each control's own unit"),
    Headline("push_mean_down", "1 - overlap@10 at strength -0.5, mean over the same"),
    Headline("push_cv_down", "its coefficient of variation"),
    Headline("push_cv_down_before", "the same at -0.5 of each control's own unit"),
    Headline(
        "concept_to_boost",
        "NDCG@10 kept by concepts at +0.30 share, as a multiple of score boosting's, mean over values; a value that a concept does not "
        "raise so far counts as nothing kept",
    ),
    Headline("concept_to_boost_50", "the same at +0.50 share"),
    Headline("concept_to_boost_100k", "the same at +0.30 share on MovieLens-100K"),
    Headline(
        "feature_to_boost",
        "NDCG@10 kept by the best discovered feature at +0.30 share, as a multiple of score boosting's, "
        "mean over the values that it reaches",
        "prototype 0.89",
    ),
    Headline("six_concepts_x_plain", "time of a request with six concepts, as a multiple of a plain one's, one caller"),
    Headline("six_concepts_bytes", "bytes of its answer"),
    Headline("plain_bytes", "bytes of the plain one's"),
    Headline(
        "tail_coverage_x_popsteer",
        "coverage@10 of the least popular 80% of items at 5% of NDCG@10 lost, as a multiple of PopSteer's",
        "1",
    ),
    Headline(
        "monotone",
        "share of labelled steerable discovered features with which their label's share never falls from strength 0 to 1",
    ),
)
