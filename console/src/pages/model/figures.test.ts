import { create } from "@bufbuild/protobuf"
import { expect, test } from "vitest"
import { ConceptSchema, FeatureSchema } from "../../gen/steersman/v1/feature_service_pb"
import { figureName, figureOrder, figureText, shortfalls, splitOf } from "./figures"

const good = {
  "test.ndcg_at_10": 0.5,
  "test.hr_at_10": 0.7,
  "test.coverage_at_10": 0.8,
  "test_most_popular.ndcg_at_10": 0.1,
  "sae.test_ndcg_kept": 0.99,
  "sae.dead": 0,
}
const nameOf = ({ value }: { value: string }) => value

test("figures are named for people", () => {
  expect(figureName("test_most_popular.ndcg_at_10")).toBe("Test, most popular: NDCG@10")
  expect(figureName("valid.hr_at_10")).toBe("Validation: Hit rate@10")
  expect(figureName("sae.dead")).toBe("Autoencoder: dead features")
  expect(figureName("other.new_thing")).toBe("other: new thing")
  expect(figureText("sae.test_ndcg_kept", 0.9648)).toBe("96.5%")
  expect(figureOrder(["valid.mrr", "sae.dead", "zzz", "test.mrr", "test.mrr"])).toEqual([
    "test.mrr",
    "sae.dead",
    "valid.mrr",
    "zzz",
  ])
})

test("a good bundle has no shortfalls", () => {
  const concepts = [
    create(ConceptSchema, { value: "Horror", effect: { shareBefore: 0, shareAfter: 0.3, ndcgKept: 0.95 } }),
  ]
  const features = [create(FeatureSchema, { clear: true, steerable: true, density: 0.1 })]
  expect(shortfalls({ figures: good, concepts, features, nameOf })).toEqual([])
})

test("what falls short is counted and named", () => {
  const concepts = [
    create(ConceptSchema, {
      value: "Western",
      beyondNatural: true,
      effect: { shareBefore: 0, shareAfter: 0.01, ndcgKept: 0.5 },
    }),
    create(ConceptSchema, { value: "Drama" }),
  ]
  const features = [
    create(FeatureSchema, { density: 0.001 }),
    create(FeatureSchema, { clear: true, steerable: true, density: 1 }),
  ]
  const figures = { ...good, "test_most_popular.ndcg_at_10": 0.49, "sae.dead": 2, "sae.test_ndcg_kept": 0.8 }
  const told = shortfalls({ figures, concepts, features, nameOf })
  expect(told.map(({ title }) => title)).toEqual([
    "Hardly better than the most popular items",
    "Features do not hold all that the model knows",
    "2 features are dead",
    "1 of 2 concepts ask for more than is natural",
    "1 of 2 concepts do little",
    "1 of 2 concepts cost much accuracy",
    "1 of 2 concepts were not measured",
    "50% of features have no clear meaning",
    "50% of features are not reliably steerable",
    "50% of features are rare",
  ])
  expect(told[3]?.text).toContain("Western.")
})

test("a bundle without figures says so", () => {
  expect(splitOf({})).toBeUndefined()
  expect(shortfalls({ figures: {}, concepts: [], features: [], nameOf })).toHaveLength(1)
})
