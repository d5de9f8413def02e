// Changes that are not published yet. They are kept in this tab, so that leaving the page loses nothing, and the browser warns before the tab closes.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { useEffect, useState } from "preact/hooks"
import { ScenarioSchema, type Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import { opened, same } from "./text"

const PREFIX = "steersman-draft:"

export interface Draft {
  /** As it was when the change began; its version is 0 for one that is new. */
  base: Scenario
  draft: Scenario
}

const pack = (scenario: Scenario): number[] => [...toBinary(ScenarioSchema, scenario)]
const unpack = (packed: number[]): Scenario => fromBinary(ScenarioSchema, Uint8Array.from(packed))

/** `name` is "" for a new one. */
export function readDraft(name: string): Draft | undefined {
  try {
    const kept = JSON.parse(sessionStorage.getItem(PREFIX + name) ?? "null") as {
      base: number[]
      draft: number[]
    } | null
    return kept ? { base: unpack(kept.base), draft: opened(unpack(kept.draft)) } : undefined
  } catch {
    return undefined
  }
}

export function keepDraft(name: string, { base, draft }: Draft): void {
  if (same(base, draft)) return dropDraft(name)
  sessionStorage.setItem(PREFIX + name, JSON.stringify({ base: pack(base), draft: pack(draft) }))
}

export const dropDraft = (name: string): void => sessionStorage.removeItem(PREFIX + name)

/** Names of those with changes that are not published. */
export const drafts = (): string[] =>
  Object.keys(sessionStorage)
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => key.slice(PREFIX.length))

if (typeof addEventListener === "function")
  addEventListener("beforeunload", (event) => {
    if (drafts().length) event.preventDefault()
  })

export const newScenario = (): Scenario => opened(create(ScenarioSchema))

/** The draft of a scenario that the server holds as `kept`. */
export function useDraft(
  name: string,
  kept: Scenario,
): Draft & { set: (draft: Scenario) => void; start: (base: Scenario) => void } {
  const fresh = (): Draft => ({ base: kept, draft: opened(kept) })
  const [state, setState] = useState<Draft>(() => readDraft(name) ?? fresh())
  // Without changes of its own it follows what was published.
  useEffect(() => {
    if (kept.version !== state.base.version && same(state.base, state.draft)) setState(fresh())
  }, [kept])
  return {
    ...state,
    set: (draft) => {
      const next = { base: state.base, draft }
      keepDraft(name, next)
      setState(next)
    },
    start: (base) => {
      dropDraft(name)
      setState({ base, draft: opened(base) })
    },
  }
}
