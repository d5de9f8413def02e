// Titles and attributes of items that pages name by id. What was learned once is not asked again.

import { useEffect, useState } from "preact/hooks"
import { items } from "./api"
import { useConnection } from "./connection"
import type { ItemAttribute } from "./gen/steersman/v1/item_service_pb"

export interface KnownItem {
  title: string
  attributes: ItemAttribute[]
}

// As many ids as ListItems takes.
const MOST_IDS = 1000
const learned = new Map<string, KnownItem>()
const unknown = new Set<string>()

export const knownItem = (id: string): KnownItem | undefined => learned.get(id)

/** What an answer said of its items; those without attributes leave what is known as it is. */
export function learn(said: { itemId: string; title: string; attributes: ItemAttribute[] }[]): void {
  for (const { itemId, title, attributes } of said)
    if (attributes.length || !learned.has(itemId)) learned.set(itemId, { title, attributes })
}

/** Loads those that are not known yet; the page is drawn again when they are. */
export function useItems(ids: readonly string[]): {
  titleOf: (id: string) => string
  isUnknown: (id: string) => boolean
} {
  const { epoch } = useConnection()
  const [, draw] = useState({})
  const missing = ids.filter((id) => id && !learned.has(id) && !unknown.has(id)).slice(0, MOST_IDS)
  useEffect(() => {
    if (!missing.length) return
    const abort = new AbortController()
    items.listItems({ itemIds: missing, pageSize: MOST_IDS }, { signal: abort.signal }).then(
      (page) => {
        learn(page.items)
        for (const id of missing) if (!learned.has(id)) unknown.add(id)
        draw({})
      },
      // Ids stand in for titles until then.
      () => undefined,
    )
    return () => abort.abort()
  }, [missing.join("\n"), epoch])
  return {
    titleOf: (id) => learned.get(id)?.title ?? id,
    isUnknown: (id) => unknown.has(id),
  }
}
