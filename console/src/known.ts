// What is known of the bundle that is served: loaded once, and again when the server came back, maybe with another bundle.

import { createContext } from "preact"
import { useContext } from "preact/hooks"
import { Code } from "@connectrpc/connect"
import { features, model, problem, type Problem } from "./api"
import type { Concept } from "./gen/steersman/v1/feature_service_pb"
import type { GetModelInfoResponse } from "./gen/steersman/v1/model_service_pb"

export interface Known {
  info: GetModelInfoResponse
  /** All, in the order of the bundle. */
  concepts: Concept[]
  /** Why there are none: the caller may not see them. */
  denied?: Problem
}

export async function load(signal: AbortSignal): Promise<Known> {
  const [info, concepts] = await Promise.all([model.getModelInfo({}, { signal }), allowed(allConcepts(signal))])
  return Array.isArray(concepts) ? { info, concepts } : { info, concepts: [], denied: concepts }
}

/** The pages that need no concepts are shown all the same. */
async function allowed<T>(asked: Promise<T>): Promise<T | Problem> {
  try {
    return await asked
  } catch (error) {
    const what = problem(error)
    if (what.code === Code.PermissionDenied) return what
    throw error
  }
}

async function allConcepts(signal: AbortSignal): Promise<Concept[]> {
  const concepts: Concept[] = []
  let pageToken = ""
  do {
    const page = await features.listConcepts({ pageToken, pageSize: 1000 }, { signal })
    concepts.push(...page.concepts)
    pageToken = page.nextPageToken
  } while (pageToken && concepts.length < 5000)
  return concepts
}

export const KnownContext = createContext<Known | undefined>(undefined)

export function useKnown(): Known {
  const known = useContext(KnownContext)
  if (!known) throw new Error("no page is shown before the bundle is known")
  return known
}
