// The steered list while a slider moves: one call in flight, the newest next, and the whole answer once it rests.

import { Code, ConnectError } from "@connectrpc/connect"
import { useLayoutEffect, useRef, useState } from "preact/hooks"
import { problem, recommendations, type Problem } from "../../api"
import { failed, useConnection } from "../../connection"
import { AnswerPart, type RecommendResponse } from "../../gen/steersman/v1/recommendation_service_pb"
import { learn } from "../../known-items"
import { Latest } from "../../latest"
import { changed, type Request } from "../../request"

export const REST_MS = 250
// An answer that never comes must not hold up the next.
const TIMEOUT_MS = 10_000
const FAST = [AnswerPart.NONE]
const WHOLE = [AnswerPart.EDITS, AnswerPart.RECEIPT, AnswerPart.ATTRIBUTES]

interface Question {
  request: Request
  whole: boolean
}

export interface Steered {
  /** The newest list, also while the next one is awaited. */
  list?: RecommendResponse
  /** The newest whole answer, with edits and receipts, and the request that it is of. */
  whole?: RecommendResponse
  wholeOf?: Request
  problem?: Problem
  reload: () => void
}

export async function askParts(
  request: Request,
  parts: AnswerPart[],
  signal?: AbortSignal,
): Promise<RecommendResponse> {
  const question = changed(request, (copy) => void (copy.parts = parts))
  const answer = await recommendations.recommend(question, { signal, timeoutMs: TIMEOUT_MS })
  learn(answer.items)
  return answer
}

export function useSteered(request: Request): Steered {
  const { epoch } = useConnection()
  const [state, setState] = useState<Omit<Steered, "reload">>({})
  const [again, setAgain] = useState(0)
  // A whole answer takes longer than a list: the next move of the slider does not wait for it.
  const long = useRef<AbortController>(undefined)
  const latest = useRef<Latest<Question, RecommendResponse>>(undefined)
  latest.current ??= new Latest(
    ({ request, whole }) => {
      long.current = whole ? new AbortController() : undefined
      return askParts(request, whole ? WHOLE : FAST, long.current?.signal)
    },
    (list, { request, whole }) =>
      setState((before) => (whole ? { list, whole: list, wholeOf: request } : { ...before, list, problem: undefined })),
    (error) => {
      if (ConnectError.from(error).code === Code.Canceled) return
      const what = problem(error)
      failed(what)
      setState((before) => ({ ...before, problem: what }))
    },
  )
  // An effect would wait for the next frame first.
  useLayoutEffect(() => {
    long.current?.abort()
    latest.current?.put({ request, whole: false })
    const rest = setTimeout(() => latest.current?.put({ request, whole: true }), REST_MS)
    return () => clearTimeout(rest)
  }, [request, epoch, again])
  return { ...state, reload: () => setAgain((times) => times + 1) }
}
