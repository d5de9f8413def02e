"""Sweeps settings of autoencoders on one trained recommender, cell by cell; resumes.

Dimensions: S states, D hidden, F features, V attribute values, B users, K = 10.
"""

import copy
import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from steersman_training.autoencoder.moments import Moments, collect_moments
from steersman_training.autoencoder.sae import Kind, SaeConfig, SparseAutoencoder, measure_sae, train_sae
from steersman_training.autoencoder.states import collect_states
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.steering import Audience, audience
from steersman_training.catalogue.units import correlations, take
from steersman_training.data.sequences import Split, check_enough, hold_out_users
from steersman_training.evaluation.meaning.meaning import Sides, feature_sides, item_truth, list_truth, neuron_sides
from steersman_training.evaluation.meaning.stability import ALIKE, best_match
from steersman_training.evaluation.overlap import rbo
from steersman_training.pipeline import Display, Knowledge, TrainConfig, so_far
from steersman_training.recommender import checkpoint as checkpoints
from steersman_training.recommender.fit import Fit
from steersman_training.recommender.model import Recommender, RecommenderConfig

MOMENTS = 20_000
"""Events on which the best feature of each attribute value is chosen, and as many of held-out users on which it is measured."""
USERS = 1_000
"""Validation users whose lists are compared before and after reconstruction."""
TOGETHER = 128
"""Of them whose states are in memory at a time, below the last block with all that came before."""
HELD_OUT = 0.1
"""Share of users from whom no autoencoder learns."""


@dataclass(frozen=True)
class Grid:
    """The settings of which every combination is a cell."""

    hooks: tuple[int, ...]
    """Blocks after which the state is taken."""
    kinds: tuple[Kind, ...]
    features: tuple[int, ...]
    active: tuple[int, ...]
    epochs: tuple[int, ...]
    states: tuple[int | None, ...] = (None,)
    """Hidden states to learn from; None: all."""
    seeds: int = 2
    """Autoencoders of a cell, with seeds 0, 1, ... Stability needs two."""


@dataclass(frozen=True)
class Cell:
    """One combination."""

    hook: int
    states: int | None
    seeds: int
    sae: SaeConfig

    def as_dict(self) -> dict[str, Any]:
        """For JSON; equal cells give equal dictionaries."""
        settings = {name: value for name, value in asdict(self.sae).items() if name != "seed"}
        return {"hook": self.hook, "states": self.states, "seeds": self.seeds, **settings}


@dataclass(frozen=True)
class CellFigures:
    """The figures of a cell: means over its seeds."""

    variance_explained: float
    """Of the states of held-out users."""
    active: float
    """Features above zero in such a state."""
    dead: float
    """Share of features that are never above zero in them."""
    kept: float
    """NDCG@10 of validation users when the reconstruction replaces the state, as a share of that with the state."""
    rbo: float
    """Agreement of their lists before and after (`overlap.rbo`, p = 0.9)."""
    corr_item: float
    """Correlation of the best feature with the item at hand, mean over attribute values, held-out users."""
    corr_item_x_neuron: float
    """The same as a multiple of the best neuron's."""
    corr_list: float
    """Correlation of the best feature with the share of the value in the top 10 to come."""
    corr_list_x_neuron: float
    """The same as a multiple of the best neuron's."""
    stable: float | None
    """Share of live features whose best match in an autoencoder of another seed has a decoder cosine of at least 0.7; None: one seed."""
    seconds: float
    """Of training one autoencoder."""
    corr_item_linear: float | None = None
    """`corr_item` of the best weighted sum of all neurons (least squares): an upper bound for linear features.
    None: a row of a version that did not measure it."""


class Row(NamedTuple):
    """A finished cell."""

    cell: dict[str, Any]
    figures: CellFigures


class SweepDisplay(Protocol):
    """Shows the progress of a sweep."""

    def stage(self, name: str) -> None: ...
    def sae(self, epoch: int, epochs: int, variance_explained: float) -> None: ...


def cells(grid: Grid, base: SaeConfig, blocks: int | None = None) -> list[Cell]:
    """Every combination, those of one hook together; other settings are those of `base`.

    Raises ValueError naming the setting if one makes no sense, or a hook lies beyond `blocks`.
    """
    if blocks is not None and max(grid.hooks) > blocks:
        raise ValueError(f"hook: {max(grid.hooks)} is not between 0 and blocks, {blocks}")
    combinations = itertools.product(grid.hooks, grid.states, grid.kinds, grid.features, grid.active, grid.epochs)
    return [
        Cell(hook, states, grid.seeds, replace(base, kind=kind, features=features, active=active, epochs=epochs))
        for hook, states, kind, features, active, epochs in combinations
    ]


def at_hook(model: Recommender, hook: int | None) -> Recommender:
    """The same recommender, weights shared, with its hook after `hook` blocks (None: after the last)."""
    moved = copy.copy(model)
    moved.config = replace(model.config, hook=hook)
    return moved


def load_recommender(checkpoint: Path, split: Split, device: torch.device) -> Recommender:
    """The best recommender so far of a checkpoint of `fit.Fit`. Raises CheckpointError if it belongs to other data or another split."""
    state = checkpoints.read(checkpoint, device)
    found = state["identity"]
    checkpoints.match(checkpoint, found, checkpoints.identity(split, RecommenderConfig(), {}), ("data", "split"))
    try:
        names = [field.name for field in fields(RecommenderConfig)]
        shape = RecommenderConfig(**{name: found["settings"][name] for name in names})
        model = Recommender(shape, split.item_count).to(device)
        model.load_state_dict(state["best"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise checkpoints.broken(checkpoint) from error
    return model.eval().requires_grad_(False)


def recommender(
    checkpoint: Path, split: Split, config: TrainConfig, known: Knowledge, device: torch.device, display: Display
) -> Recommender:
    """The recommender of the checkpoint, with any settings. Trained with `config` if there is none, or it is not finished.

    Raises DataError if the data is not enough, CheckpointError if the checkpoint is of other data, or of an unfinished run with other
    settings.
    """
    check_enough(split, HELD_OUT, seed=0)
    wanted = known.identity(split, config)
    if checkpoint.exists():
        state = checkpoints.read(checkpoint)
        settings = state["identity"]["settings"]
        if settings != wanted["settings"]:
            if state["epoch"] >= settings["epochs"] or state["stale"] >= settings["patience"]:
                return load_recommender(checkpoint, split, device)
            raise checkpoints.CheckpointError(
                f"{checkpoint}: a run with other settings that is not finished "
                f"({checkpoints.differences(state['identity'], wanted)}); finish it first, or name another place"
            )
    display.stage("recommender")
    try:
        fit = Fit(split, config.recommender, config.fit, device, known.attributes_NV)
        fit.run(display.recommender, checkpoint)
    except KeyboardInterrupt as error:
        error.add_note(so_far(checkpoint))
        raise
    return load_recommender(checkpoint, split, device)


def sweep(
    model: Recommender, split: Split, values: AttributeValues, todo: list[Cell], out: Path, display: SweepDisplay
) -> list[Row]:
    """Computes the cells that the file `out` lacks, and appends each as a line of JSON once it is finished. All rows, in order.

    A line belongs to the recommender whose weights it was computed with: those of another are left alone.
    """
    mark = _fingerprint(model)
    done = _read(out, mark)
    missing = [cell for cell in todo if _key(cell) not in done]
    out.parent.mkdir(parents=True, exist_ok=True)
    for hook, group in itertools.groupby(missing, key=lambda cell: cell.hook):
        display.stage(f"states after block {hook}")
        data = _HookData.of(at_hook(model, hook), split)
        for cell in group:
            display.stage(", ".join(f"{name} {value}" for name, value in _short(cell).items()))
            try:
                row = Row(cell.as_dict(), data.measure(cell, values, display))
            except BaseException as error:
                error.add_note(f"{len(done)} finished cells are kept in {out}: the same command goes on from there")
                raise
            with out.open("a") as file:
                file.write(json.dumps({"recommender": mark, "cell": row.cell, "figures": asdict(row.figures)}) + "\n")
            done[_key(cell)] = row
    return [done[_key(cell)] for cell in todo]


def _short(cell: Cell) -> dict[str, Any]:
    names = ("kind", "features", "active", "epochs")
    return {name: getattr(cell.sae, name) for name in names}


def _key(cell: Cell) -> str:
    return json.dumps(cell.as_dict(), sort_keys=True)


def _read(out: Path, mark: str) -> dict[str, Row]:
    """Finished cells of a recommender. A last line that an interruption cut short is removed."""
    text = out.read_text() if out.exists() else ""
    if text and not text.endswith("\n"):
        out.write_text(text[: text.rfind("\n") + 1])
    rows = [row for recommender, row in finished_cells(out) if recommender == mark]
    return {json.dumps(row.cell, sort_keys=True): row for row in rows}


def finished_cells(out: Path) -> list[tuple[str, Row]]:
    """The cells of a file of sweeps, if there is one, and the mark of the recommender of each; a last line that was cut short is left out.

    Raises ValueError if it is something else.
    """
    rows = []
    try:
        lines = out.read_text().splitlines(keepends=True) if out.exists() else []
        for line in lines:
            if line.endswith("\n"):
                entry = json.loads(line)
                rows.append((entry["recommender"], Row(_present(entry["cell"]), CellFigures(**entry["figures"]))))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{out}: not a file of sweeps of this version: {error!r}; name another place") from error
    return rows


def _present(cell: dict[str, Any]) -> dict[str, Any]:
    """Without a setting of earlier versions, if it was off."""
    return {name: value for name, value in cell.items() if (name, value) != ("prediction_weight", 0)}


def _fingerprint(model: Recommender) -> str:
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _HookData:
    """Shared by all cells of one hook."""

    h_SD: Tensor  # states to learn from
    held_out_SD: Tensor
    chosen: Moments
    measured: Moments
    people: list[Audience]

    @staticmethod
    def of(model: Recommender, split: Split) -> "_HookData":
        learners, held_out = hold_out_users(split, HELD_OUT, seed=0)
        targets = split.valid.sample(USERS, seed=0)
        return _HookData(
            collect_states(model, split, learners).h_SD,
            collect_states(model, split, held_out).h_SD,
            collect_moments(model, split, learners, MOMENTS, seed=0),
            collect_moments(model, split, held_out, MOMENTS, seed=1),
            [
                audience(model, split, targets.take(slice(begin, begin + TOGETHER)))
                for begin in range(0, len(targets.users), TOGETHER)
            ],
        )

    def measure(self, cell: Cell, values: AttributeValues, display: SweepDisplay) -> CellFigures:
        """Trains the autoencoders of a cell, one for each seed, and measures them."""
        order_S = torch.randperm(len(self.h_SD), generator=torch.Generator().manual_seed(0))[: cell.states]
        h_SD = self.h_SD if cell.states is None else self.h_SD[order_S.to(self.h_SD.device)]
        saes, seconds = [], []
        for seed in range(cell.seeds):
            began = time.perf_counter()
            saes.append(train_sae(h_SD, replace(cell.sae, seed=seed), display.sae))
            seconds.append(time.perf_counter() - began)
        parts = [self._figures(sae, values) for sae in saes]
        means = {name: mean(part[name] for part in parts) for name in parts[0]}
        return CellFigures(**means, stable=self._stable(saes), seconds=mean(seconds))

    @torch.no_grad()
    def _figures(self, sae: SparseAutoencoder, values: AttributeValues) -> dict[str, float]:
        features, neurons = feature_sides(sae, self.chosen, self.measured), neuron_sides(self.chosen, self.measured)
        figures = measure_sae(sae, self.held_out_SD) | self._lists(sae)
        for name, truth in (("item", item_truth), ("list", list_truth)):
            amount = truth(values, self.chosen, self.measured).amount
            best, best_neuron = (_best_correlation(units, amount) for units in (features, neurons))
            figures |= {f"corr_{name}": best, f"corr_{name}_x_neuron": best / max(best_neuron, 1e-9)}
        amount = item_truth(values, self.chosen, self.measured).amount
        return figures | {"corr_item_linear": linear_correlation(Sides(self.chosen.h_SD, self.measured.h_SD), amount)}

    def _lists(self, sae: SparseAutoencoder) -> dict[str, float]:
        after = [people.lists(sae.reconstruct(people.h_BD)) for people in self.people]
        before = [people.plain for people in self.people]
        kept = torch.cat([lists.ndcg_B for lists in after]).mean() / torch.cat(
            [lists.ndcg_B for lists in before]
        ).mean().clamp_min(1e-9)
        overlap_B = torch.cat([rbo(one.rows_BK, other.rows_BK) for one, other in zip(before, after, strict=True)])
        return {"kept": float(kept), "rbo": float(overlap_B.mean())}

    @torch.no_grad()
    def _stable(self, saes: list[SparseAutoencoder]) -> float | None:
        """Mean over ordered pairs of seeds."""
        live = [sae.decoder_FD[_fired(sae, self.held_out_SD)] for sae in saes]
        pairs = [
            float((best_match(one, other)[0] >= ALIKE).double().mean()) if len(one) and len(other) else 0.0
            for one, other in itertools.permutations(live, 2)
        ]
        return mean(pairs) if pairs else None


def _fired(sae: SparseAutoencoder, h_SD: Tensor) -> Tensor:
    return torch.stack([(sae.encode(part) > 0).any(0) for part in h_SD.split(4096)]).any(0)


def _best_correlation(units: Sides, amount: Sides) -> float:
    """Of the unit of each value that is best on the chosen states, on the measured ones; mean over values. 0 without values."""
    if amount.chosen.shape[1] == 0:
        return 0.0
    best_V = correlations(units.chosen, amount.chosen).argmax(0)
    return float(correlations(take(units.measured, best_V), amount.measured).diagonal().mean())


def linear_correlation(states: Sides, amount: Sides) -> float:
    """Of the least-squares read-out of whole states for each value, fitted on the chosen ones, on the measured ones; mean over values."""
    if amount.chosen.shape[1] == 0:
        return 0.0
    x_SD, y_SV = states.chosen.double(), amount.chosen.double()
    mean_D = x_SD.mean(0)
    x_SD = x_SD - mean_D
    weights_DV = torch.linalg.pinv(x_SD.T @ x_SD, hermitian=True) @ (x_SD.T @ (y_SV - y_SV.mean(0)))
    read_SV = (states.measured.double() - mean_D) @ weights_DV
    return float(correlations(read_SV, amount.measured).diagonal().mean())


def table(rows: list[Row]) -> Iterator[dict[str, str]]:
    """The rows as text: the settings in which they differ, then the figures."""
    differing = [name for name in rows[0].cell if len({row.cell[name] for row in rows}) > 1] if rows else []
    for row in rows:
        figures = {name: "-" if value is None else f"{value:.3f}" for name, value in asdict(row.figures).items()}
        # `active` is a setting and a figure, and not for every kind the same.
        settings = {f"{name} (set)" if name in figures else name: str(row.cell[name]) for name in differing}
        yield settings | figures
