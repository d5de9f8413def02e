import { create } from "@bufbuild/protobuf"
import { expect, test } from "vitest"
import { GoalSchema, ItemSetSchema, Operation } from "../../gen/steersman/v1/control_pb"
import { RecommendRequestSchema } from "../../gen/steersman/v1/recommendation_service_pb"
import { added, fromText, toText } from "../../request"
import { attributeRef, goalOf } from "./controls"
import { curl, grpcurl, python } from "./snippets"

const words = added({ case: "words", value: 'it\'s "slow"' }, 0.3)

const request = create(RecommendRequestSchema, {
  history: { itemIds: ["50", "181"], eventsBefore: 3n },
  k: 5,
  controls: [
    added({ case: "concept", value: "genres:Horror" }, -0.3),
    {
      ...added({ case: "attribute", value: attributeRef("genres", "War") }, 0),
      goal: goalOf("at_most", 0.1, { case: undefined }),
    },
    added({ case: "items", value: create(ItemSetSchema, { itemIds: ["50"] }) }, 0.5),
    words,
    {
      ...added({ case: "feature", value: { $typeName: "steersman.v1.FeatureRef", id: 3, bundleVersion: "abc" } }, 0.5),
      operation: Operation.SET,
    },
  ],
  filters: { includeSeen: true, attributes: [{ attribute: "genres", anyOf: ["Drama"] }] },
  composition: { diversity: 0.2 },
})

test("Python calls the client with everything of the request, and floats as they were chosen", () => {
  // As it comes from the address, where floats have 32 bits.
  expect(python(fromText(toText(request))!, "host:50051", false))
    .toBe(`from steersman_client import Client, Composition, Filters, at_most, concept, feature, items, tilt, words

with Client("host:50051") as client:
    answer = client.recommend(
        history=["50", "181"],
        events_before=3,
        controls=[
            concept("genres:Horror", strength=-0.3),
            tilt("genres", "War", goal=at_most(0.1)),
            items(["50"], strength=0.5),
            words("it's \\"slow\\"", strength=0.3),
            feature(3, version="abc", strength=0.5, operation="set"),
        ],
        k=5,
        filters=Filters(include_seen=True, attributes={"genres": ["Drama"]}),
        composition=Composition(diversity=0.2),
    )
for item in answer.items:
    print(item.title)
`)
})

test("a shell hands on what is quoted", () => {
  const own = create(RecommendRequestSchema, { k: 5, controls: [words] })
  const body = `-d '{ "controls": [ { "operation": "OPERATION_ADD", "strength": 0.3, "words": "it'\\''s \\"slow\\"" } ], "k": 5 }'`
  expect(curl(own, new URL("https://example.org/reco/"))).toBe(
    `curl 'https://example.org/reco/steersman.v1.RecommendationService/Recommend' \\\n  -H 'content-type: application/json' \\\n  ${body}`,
  )
  expect(grpcurl(own, "host:1", false)).toBe(
    `grpcurl -plaintext ${body} \\\n  'host:1' steersman.v1.RecommendationService/Recommend`,
  )
  expect(grpcurl(own, "host:1", true)).not.toContain("plaintext")
})

test("a share that counts something else says so", () => {
  const goal = create(GoalSchema, goalOf("at_least", 0.4, { case: "attribute", value: attributeRef("genres", "War") })!)
  const own = create(RecommendRequestSchema, { controls: [{ ...words, strength: 0, goal }] })
  expect(python(own, "h:1", false)).toContain(`goal=at_least(0.4, attribute=("genres", "War",)))`)
})

test("who is signed in copies where the token goes, and not the token", () => {
  const own = create(RecommendRequestSchema, { k: 5 })
  const header = '-H "authorization: Bearer $STEERSMAN_TOKEN"'
  expect(curl(own, new URL("https://example.org/"), true)).toContain(header)
  expect(grpcurl(own, "host:1", true, true)).toContain(header)
  expect(python(own, "host:1", false, true)).toContain("import os")
  expect(python(own, "host:1", false, true)).toContain('Client("host:1", token=os.environ["STEERSMAN_TOKEN"])')
})
