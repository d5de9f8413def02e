// Try: a history, controls, and what they do to its list.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { PageProps } from "../app"
import { useLatest } from "../calls"
import { AnswerPart } from "../gen/steersman/v1/recommendation_service_pb"
import { changed, fromText, toText, type Edit, type Request } from "../request"
import { readRoute, remember } from "../route"
import { FiltersCard } from "./try/filters"
import { withHistory } from "./try/histories"
import { HistoryCard, randomHistory } from "./try/history"
import { Lists } from "./try/lists"
import { Share } from "./try/share"
import { SteeringCard } from "./try/steering"
import { askParts, useSteered } from "./try/steered"
import { WhyCard } from "./try/why"
import "./try.css"

/** What the plain list depends on, as text: equal for requests that differ in controls alone. */
const plainText = (request: Request): string =>
  toText(
    changed(request, (copy) => {
      copy.controls = []
      copy.scenario = ""
      copy.receipt = false
    }),
  )

const askPlain = (request: Request) => askParts(request, [AnswerPart.ATTRIBUTES])

export function Try({ params, request, setRequest }: PageProps) {
  useFirstHistory(params, request, setRequest)
  const [item, choose] = useChosen(params)
  const text = plainText(request)
  const plain = useLatest(
    askPlain,
    useMemo(() => fromText(text), [text]),
  )
  const steered = useSteered(request)
  const now = useRef(request)
  now.current = request
  const edit = useCallback<Edit>((how) => setRequest(how(now.current)), [setRequest])
  // What a slider's move does not change is not drawn again: neither at the move nor at its answer.
  const { whole, wholeOf } = steered
  return (
    <div class="try">
      <div class="try-side">
        {useMemo(
          () => (
            <HistoryCard request={request} edit={edit} use={plain.value?.historyUse} />
          ),
          [text, edit, plain.value],
        )}
        {useMemo(
          () => (
            <SteeringCard request={request} setRequest={setRequest} steered={steered} />
          ),
          [request, setRequest, whole, wholeOf, whole ? undefined : steered.list],
        )}
        {useMemo(
          () => (
            <FiltersCard request={request} edit={edit} />
          ),
          [text, edit],
        )}
        <Share request={request} item={item} />
      </div>
      <div class="try-main">
        <Lists request={request} plain={plain} steered={steered} chosen={item} choose={choose} />
        {useMemo(
          () => (
            <WhyCard request={request} setRequest={setRequest} item={item} choose={choose} />
          ),
          [request, setRequest, item],
        )}
      </div>
    </div>
  )
}

/** Who comes without a link begins with somebody's history: there is more to see than for a new user. */
function useFirstHistory(params: URLSearchParams, request: Request, setRequest: (request: Request) => void): void {
  const latest = useRef(request)
  latest.current = request
  useEffect(() => {
    if (params.get("r") || request.sessionId || request.history || request.controls.length) return
    const abort = new AbortController()
    randomHistory(abort.signal).then(
      // What was set meanwhile stays.
      (sample) => {
        const now = latest.current
        if (sample && !now.sessionId && !now.history) setRequest(withHistory(now, sample.history))
      },
      // An older server or bundle has none: it begins with a new user.
      () => undefined,
    )
    return () => abort.abort()
  }, [])
}

/** The item that is explained, which the address holds, too. Choosing it again closes the explanation. */
function useChosen(params: URLSearchParams): [string, (id: string) => void] {
  const named = params.get("item") ?? ""
  const [item, setItem] = useState(named)
  useEffect(() => setItem(named), [named])
  useEffect(() => {
    const now = Object.fromEntries(readRoute().params)
    if ((now.item ?? "") !== item) remember("try", { ...now, item })
  }, [item])
  return [item, useCallback((id: string) => setItem((before) => (before === id ? "" : id)), [])]
}
