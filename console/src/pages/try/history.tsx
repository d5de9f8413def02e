// Whose list it is: a real person's history, one of one's own, a session, or a new user.

import { Code } from "@connectrpc/connect"
import { useState } from "preact/hooks"
import { items, model, problem, sessions, type Problem } from "../../api"
import { useCall } from "../../calls"
import { Search, type Found } from "../../components/search"
import { Loading } from "../../components/states"
import { count, plural } from "../../format"
import type { SampleHistory } from "../../gen/steersman/v1/model_service_pb"
import type { HistoryUse } from "../../gen/steersman/v1/recommendation_service_pb"
import { useItems } from "../../known-items"
import type { Edit, Request } from "../../request"
import { attributeLine } from "./attributes"
import { historyOf, withHistory, withSession } from "./histories"

const SHOWN = 5
const MOST_FOUND = 6
// Titles of so many of the latest are loaded, at most as many as one call gives.
const MOST_TITLES = 1000
const MOST_SEED = 2 ** 31

export async function randomHistory(signal?: AbortSignal): Promise<SampleHistory | undefined> {
  const seed = 1 + Math.floor(Math.random() * (MOST_SEED - 1))
  return (await model.listHistories({ pageSize: 1, seed }, { signal })).histories[0]
}

interface Choice extends Found {
  itemId?: string
  sample?: SampleHistory
}

async function find(text: string, signal: AbortSignal): Promise<Choice[]> {
  const [titles, samples] = await Promise.allSettled([
    items.listItems({ text, pageSize: MOST_FOUND }, { signal }),
    model.listHistories({ text, pageSize: text ? MOST_FOUND : 3 }, { signal }),
  ])
  if (titles.status === "rejected") throw titles.reason
  const own: Choice[] = titles.value.items.map(({ itemId, title, attributes }) => ({
    key: `item:${itemId}`,
    label: title,
    note: attributeLine(attributes),
    group: "Add to the history",
    itemId,
  }))
  const real: Choice[] = (samples.status === "fulfilled" ? samples.value.histories : []).map((sample) => ({
    key: `sample:${sample.name}`,
    label: sample.latestTitles.slice(0, 2).join(", "),
    note: `person ${sample.name} · ${plural(total(sample), "event")}`,
    group: "People who have it",
    sample,
  }))
  return [...own, ...(text ? real : real.map((each) => ({ ...each, group: "Real people" })))]
}

const total = ({ history }: SampleHistory): number =>
  (history?.itemIds.length ?? 0) + Number(history?.eventsBefore ?? 0n)

export interface HistoryProps {
  /** Only its history and session are read. */
  request: Request
  edit: Edit
  /** As the newest answer read it. */
  use: HistoryUse | undefined
}

export function HistoryCard({ request, edit, use }: HistoryProps) {
  const [failure, setFailure] = useState<Problem>()
  const [asksSession, setAsksSession] = useState(false)
  const pick = (how: (now: Request) => Request) => {
    setFailure(undefined)
    setAsksSession(false)
    edit(how)
  }
  const random = async () => {
    try {
      const sample = await randomHistory()
      if (sample) pick((now) => withHistory(now, sample.history))
      else setFailure(noSamples)
    } catch (error) {
      const what = problem(error)
      setFailure(what.code === Code.Unimplemented ? noSamples : what)
    }
  }
  const choose = ({ itemId, sample }: Choice) => {
    if (sample) pick((now) => withHistory(now, sample.history))
    else if (itemId)
      pick((now) => withHistory(now, historyOf([...(now.history?.itemIds ?? []), itemId], now.history?.eventsBefore)))
  }
  return (
    <section class="card" aria-labelledby="history-title">
      <div class="card-head">
        <h2 id="history-title" tabIndex={-1}>
          History
        </h2>
        <span class="muted">{describe(request, use)}</span>
      </div>
      <Search label="Add an item, or find a person by one" find={find} choose={choose} />
      <div class="row try-picks">
        <button type="button" onClick={random}>
          Random person
        </button>
        <button type="button" aria-expanded={asksSession} onClick={() => setAsksSession(!asksSession)}>
          Session
        </button>
        <button
          type="button"
          aria-pressed={!request.sessionId && !request.history?.itemIds.length}
          onClick={() => pick((now) => withHistory(now, undefined))}
        >
          New user
        </button>
      </div>
      {asksSession && <SessionField choose={(id) => pick((now) => withSession(now, id))} first={request.sessionId} />}
      {failure && (
        <p class="warning" role="alert">
          {failure.detail}
        </p>
      )}
      {request.sessionId ? (
        <SessionHistory id={request.sessionId} use={use} />
      ) : (
        <OwnHistory request={request} edit={edit} use={use} />
      )}
    </section>
  )
}

const noSamples = {
  title: "No histories",
  detail: "This bundle carries no histories of real people. Add items by title to make one of your own.",
  fields: [],
  reason: "",
  code: Code.Unimplemented,
  temporary: false,
} satisfies Problem

function describe(request: Request, use: HistoryUse | undefined): string {
  if (request.sessionId) return "session"
  if (!request.history?.itemIds.length) return "new user"
  const events = use ? use.totalEvents : request.history.itemIds.length
  return plural(Number(events), "event")
}

function SessionField({ choose, first }: { choose: (id: string) => void; first: string }) {
  const [id, setId] = useState(first)
  return (
    <form
      class="row try-session"
      onSubmit={(event) => {
        event.preventDefault()
        if (id.trim()) choose(id.trim())
      }}
    >
      <input
        class="grow"
        type="text"
        aria-label="Session id"
        placeholder="Session id"
        maxLength={128}
        pattern="[A-Za-z0-9._:\-]+"
        title="Letters, digits and . _ - :"
        required
        value={id}
        onInput={(event) => setId(event.currentTarget.value)}
      />
      <button type="submit">Use it</button>
    </form>
  )
}

function Seen({ use }: { use: HistoryUse | undefined }) {
  if (!use || use.empty) return null
  const parts = []
  if (BigInt(use.usedEvents + use.unknownEvents) < use.totalEvents)
    parts.push(`The model reads the latest ${count(use.usedEvents + use.unknownEvents)} of them.`)
  if (use.unknownEvents)
    parts.push(`${plural(use.unknownEvents, "event")} of items that this bundle does not know: left out.`)
  return parts.length ? <p class="note">{parts.join(" ")}</p> : null
}

function SessionHistory({ id, use }: { id: string; use: HistoryUse | undefined }) {
  const call = useCall(
    (signal) => sessions.getSession({ sessionId: id, maxItemIds: SHOWN }, { signal }).then(({ session }) => session),
    [id],
  )
  const latest = [...(call.value?.itemIds ?? [])].reverse()
  const { titleOf, isUnknown } = useItems(latest)
  if (call.problem?.code === Code.NotFound)
    return (
      <p class="note">
        There is no session <code>{id}</code> yet. Its list is that of a new user, until events are added to it.
      </p>
    )
  if (call.problem && !call.value)
    return (
      <p class="warning" role="alert">
        {call.problem.title}: {call.problem.detail}
      </p>
    )
  if (!call.value) return <Loading lines={3} label="Loading the session" />
  const { totalEvents, controls, dislikedItemIds, hiddenItemIds } = call.value
  const away = dislikedItemIds.length + hiddenItemIds.length
  return (
    <>
      <p class="note">
        Session <code>{id}</code>: {plural(Number(totalEvents), "event")}, {plural(controls.length, "control")} of its
        own
        {away > 0 && `, ${plural(away, "item")} disliked or hidden`}.
      </p>
      <ul class="try-titles" aria-label="Latest events">
        {latest.map((itemId, index) => (
          <li key={index}>
            <span>{isUnknown(itemId) ? <em>unknown item {itemId}</em> : titleOf(itemId)}</span>
          </li>
        ))}
      </ul>
      <Seen use={use} />
    </>
  )
}

function OwnHistory({ request, edit, use }: HistoryProps) {
  const [all, setAll] = useState(false)
  const itemIds = request.history?.itemIds ?? []
  const latest = itemIds.map((id, place) => ({ id, place })).reverse()
  const { titleOf, isUnknown } = useItems(latest.slice(0, MOST_TITLES).map(({ id }) => id))
  if (!itemIds.length)
    return (
      <p class="note">
        Nothing is known of this person: the list is what suits most people. Controls act all the same.
      </p>
    )
  const drop = (place: number) => {
    // The button that had the focus is gone.
    document.getElementById("history-title")?.focus()
    edit((now) =>
      withHistory(
        now,
        historyOf(
          itemIds.filter((_, at) => at !== place),
          now.history?.eventsBefore,
        ),
      ),
    )
  }
  return (
    <>
      <ul class={all ? "try-titles try-titles-all" : "try-titles"} aria-label="Events, the latest first">
        {latest.slice(0, all ? MOST_TITLES : SHOWN).map(({ id, place }) => (
          <li key={`${place}:${id}`}>
            <span>{isUnknown(id) ? <em>unknown item {id}</em> : titleOf(id)}</span>
            <button
              type="button"
              class="icon try-drop"
              aria-label={`Take ${titleOf(id)} out of the history`}
              onClick={() => drop(place)}
            >
              ×
            </button>
          </li>
        ))}
      </ul>
      {latest.length > SHOWN && (
        <button type="button" class="link" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "Show the latest only" : `Show all ${count(Math.min(latest.length, MOST_TITLES))}`}
        </button>
      )}
      <Seen use={use} />
    </>
  )
}
