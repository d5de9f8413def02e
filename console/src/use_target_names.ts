// Names of all that scenarios mention, asked of the server.

import { features, items } from "./api"
import { useCall } from "./calls"
import type { Scenario } from "./gen/steersman/v1/scenario_service_pb"
import { useKnown } from "./known"
import { conceptName, featuresOf, itemsOf, type Names } from "./target_names"

const MOST_TITLES = 1000

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
  return {
    concept: (name) => conceptName(known, name),
    feature: ({ id, bundleVersion }) =>
      bundleVersion === served ? (labels.value?.get(id) ?? `feature ${id}`) : `feature ${id} of another bundle`,
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
