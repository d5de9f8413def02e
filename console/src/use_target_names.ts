// Names of all that scenarios mention, asked of the server.

import { create } from "@bufbuild/protobuf"
import { features, recommendations } from "./api"
import { useCall } from "./calls"
import type { FeatureRef } from "./gen/steersman/v1/control_pb"
import { AnswerPart, RecommendRequestSchema } from "./gen/steersman/v1/recommendation_service_pb"
import type { Scenario } from "./gen/steersman/v1/scenario_service_pb"
import { useItems } from "./known-items"
import { useKnown } from "./known"
import { conceptName, featuresOf, itemsOf, type Names } from "./target_names"
import { featureName } from "./names"
import { added } from "./request"

const MOST_FOREIGN = 16

/** Ids until the server has told. */
export function useNames(scenarios: Scenario[]): Names {
  const known = useKnown()
  const served = known.info.bundleVersion
  const refs = [
    ...new Set(featuresOf(scenarios).flatMap(({ id, bundleVersion }) => (bundleVersion === served ? [id] : []))),
  ].sort((one, other) => one - other)
  const { titleOf } = useItems(itemsOf(scenarios))
  const labels = useCall((signal) => labelsOf(refs, served, signal), [refs.join(), served])
  const foreign = foreignOf(scenarios, served)
  const carried = useCall((signal) => carriedNames(foreign, signal), [foreign.map(keyOf).join(" ")])
  return {
    concept: (name) => conceptName(known, name),
    feature: (ref) =>
      ref.bundleVersion === served
        ? (labels.value?.get(ref.id) ?? `feature ${ref.id}`)
        : (carried.value?.get(keyOf(ref)) ?? `feature ${ref.id} of another bundle`),
    item: titleOf,
  }
}

async function labelsOf(ids: number[], bundleVersion: string, signal: AbortSignal): Promise<Map<number, string>> {
  const found = await Promise.all(ids.map((id) => features.getFeature({ id, bundleVersion }, { signal })))
  return new Map(found.map(({ feature }, index) => [ids[index]!, featureName(feature?.label ?? "", ids[index]!)]))
}

const keyOf = ({ id, bundleVersion }: FeatureRef): string => `${bundleVersion}:${id}`

/** Features of other bundles, each once, and no more than a batch may have. */
function foreignOf(scenarios: Scenario[], served: string): FeatureRef[] {
  const refs = featuresOf(scenarios).filter(({ bundleVersion }) => bundleVersion !== served)
  return [...new Map(refs.map((ref) => [keyOf(ref), ref])).values()].slice(0, MOST_FOREIGN)
}

/** Of what stands for them in the bundle that is served: an answer names what it applied. */
async function carriedNames(refs: FeatureRef[], signal: AbortSignal): Promise<Map<string, string>> {
  const names = new Map<string, string>()
  if (!refs.length) return names
  const requests = refs.map((value) =>
    create(RecommendRequestSchema, {
      k: 1,
      controls: [added({ case: "feature", value }, 0)],
      parts: [AnswerPart.NONE],
    }),
  )
  const { results } = await recommendations.batchRecommend({ requests }, { signal })
  for (const [index, { result }] of results.entries()) {
    const name = result.case === "response" ? result.value.appliedControls[0]?.displayName : ""
    if (name) names.set(keyOf(refs[index]!), featureName(name, refs[index]!.id))
  }
  return names
}
