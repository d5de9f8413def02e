// Names of all that scenarios mention, asked of the server.

import { create } from "@bufbuild/protobuf"
import { features, items, recommendations } from "./api"
import { useCall } from "./calls"
import type { FeatureRef } from "./gen/steersman/v1/control_pb"
import { AnswerPart, RecommendRequestSchema } from "./gen/steersman/v1/recommendation_service_pb"
import type { Scenario } from "./gen/steersman/v1/scenario_service_pb"
import { useKnown } from "./known"
import { conceptName, featuresOf, itemsOf, type Names } from "./target_names"
import { added } from "./request"

const MOST_TITLES = 1000
const MOST_FOREIGN = 16

/** Ids until the server has told. */
export function useNames(scenarios: Scenario[]): Names {
  const known = useKnown()
  const served = known.info.bundleVersion
  const ids = itemsOf(scenarios).slice(0, MOST_TITLES)
  const refs = [
    ...new Set(featuresOf(scenarios).flatMap(({ id, bundleVersion }) => (bundleVersion === served ? [id] : []))),
  ].sort((one, other) => one - other)
  const titles = useCall((signal) => titlesOf(ids, signal), [ids.join(" ")])
  const labels = useCall((signal) => labelsOf(refs, served, signal), [refs.join(), served])
  const foreign = foreignOf(scenarios, served)
  const carried = useCall((signal) => carriedNames(foreign, signal), [foreign.map(keyOf).join(" ")])
  return {
    concept: (name) => conceptName(known, name),
    feature: (ref) =>
      ref.bundleVersion === served
        ? (labels.value?.get(ref.id) ?? `feature ${ref.id}`)
        : (carried.value?.get(keyOf(ref)) ?? `feature ${ref.id} of another bundle`),
    item: (id) => titles.value?.get(id) ?? id,
  }
}

async function titlesOf(ids: string[], signal: AbortSignal): Promise<Map<string, string>> {
  const titles = new Map<string, string>()
  if (!ids.length) return titles
  let pageToken = ""
  do {
    const page = await items.listItems({ itemIds: ids, pageSize: MOST_TITLES, pageToken }, { signal })
    for (const { itemId, title } of page.items) titles.set(itemId, title || itemId)
    pageToken = page.nextPageToken
  } while (pageToken)
  return titles
}

async function labelsOf(ids: number[], bundleVersion: string, signal: AbortSignal): Promise<Map<number, string>> {
  const found = await Promise.all(ids.map((id) => features.getFeature({ id, bundleVersion }, { signal })))
  return new Map(found.map(({ feature }) => [feature?.id ?? 0, feature?.label ?? ""]))
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
    if (name) names.set(keyOf(refs[index]!), name)
  }
  return names
}
