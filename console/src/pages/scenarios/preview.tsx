// What a draft does to the lists of ten real people, before anybody is shown it.

import { create } from "@bufbuild/protobuf"
import { Code } from "@connectrpc/connect"
import { useMemo, useState } from "preact/hooks"
import { model, recommendations, type Problem } from "../../api"
import { useCall, useLatest, useSettled, type Call } from "../../calls"
import { Dialog } from "../../components/dialog"
import { compared, ItemList, type Row } from "../../components/items"
import { Loading, ProblemBox } from "../../components/states"
import { count, percent, plural } from "../../format"
import type { SampleHistory } from "../../gen/steersman/v1/model_service_pb"
import { SampleHistorySchema } from "../../gen/steersman/v1/model_service_pb"
import {
  AnswerPart,
  RecommendRequestSchema,
  type RecommendedItem,
  type RecommendRequest,
  type RecommendResponse,
  type RecommendResult,
  type RequestFailure,
} from "../../gen/steersman/v1/recommendation_service_pb"
import { ScenarioSchema, type Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import { useKnown } from "../../known"
import { targetName, type Names } from "../../target_names"
import { means, type Mean } from "./means"

const HISTORIES = 10
const K = 10
const SETTLED_MS = 120

type Beside = "plain" | "without" | "published"

/** Without this scenario there are neither controls nor filters. */
const NOTHING = create(ScenarioSchema)

const BESIDES: Record<Beside, string> = {
  plain: "of the list under the same filters, not steered, stays",
  without: "of the list without this scenario stays",
  published: "of the published list stays",
}

const BEFORE: Record<Beside, string> = {
  plain: "Not steered",
  without: "Without this scenario",
  published: "Published",
}

interface Question {
  draft: Scenario
  beside: Scenario | undefined
  histories: SampleHistory[]
  most: number
}

export interface Answered {
  history: SampleHistory
  before: RecommendedItem[]
  after: RecommendedItem[]
  response: RecommendResponse
}

/** The same history under the filters alone, or under what is published; and under the draft. */
function requests({ draft, beside, histories }: Question): RecommendRequest[] {
  return histories.flatMap(({ history }) => [
    create(RecommendRequestSchema, {
      history,
      k: K,
      filters: (beside ?? draft).filters,
      controls: beside?.controls ?? [],
      composition: beside?.composition,
      parts: [AnswerPart.NONE],
    }),
    create(RecommendRequestSchema, {
      history,
      k: K,
      filters: draft.filters,
      controls: draft.controls,
      composition: draft.composition,
      receipt: true,
      parts: [AnswerPart.RECEIPT],
    }),
  ])
}

class Refused extends Error {
  constructor(readonly failure: RequestFailure) {
    super(failure.message)
  }
}

async function ask(question: Question): Promise<Answered[] | Refused> {
  const all = requests(question)
  const size = Math.max(1, question.most)
  const results: RecommendResult[] = []
  for (let at = 0; at < all.length; at += size)
    results.push(...(await recommendations.batchRecommend({ requests: all.slice(at, at + size) })).results)
  const refused = results.find(({ result }) => result.case === "failure")
  if (refused?.result.case === "failure") return new Refused(refused.result.value)
  const responses = results.map(({ result }) => result.value as RecommendResponse)
  return question.histories.map((history, index) => {
    const response = responses[2 * index + 1]!
    return { history, before: responses[2 * index]!.items, after: response.items, response }
  })
}

function asProblem({ failure }: Refused): Problem {
  return {
    title: "The server does not take this scenario",
    detail: failure.message,
    fields: failure.fields.map(({ field, description }) => ({ field, description })),
    reason: failure.reason,
    code: failure.code as Code,
    temporary: false,
  }
}

const NEW_PERSON = create(SampleHistorySchema)

/** Ten histories of the bundle; a new person alone where it has none. */
export function useHistories(seed: number): Call<{ histories: SampleHistory[]; why: string }> {
  return useCall(
    async (signal) => {
      try {
        const { histories, totalSize } = await model.listHistories({ pageSize: HISTORIES, seed }, { signal })
        if (totalSize) return { histories, why: "" }
        return {
          histories: [NEW_PERSON],
          why: "The bundle that is served has no sample histories: bundles have them since format 1.6.",
        }
      } catch (error) {
        if ((error as { code?: Code }).code !== Code.Unimplemented) throw error
        return { histories: [NEW_PERSON], why: "This server is older and gives no sample histories." }
      }
    },
    [seed],
  )
}

export interface PreviewProps {
  draft: Scenario
  /** What is published, if it is. */
  published?: Scenario
  names: Names
  seed: number
  shuffle: () => void
}

export function Preview({ draft, published, names, seed, shuffle }: PreviewProps) {
  const { limits } = useKnown().info
  const [besides, setBeside] = useState<Beside>("plain")
  const histories = useHistories(seed)
  const settled = useSettled(draft, SETTLED_MS)
  const beside = { plain: undefined, without: NOTHING, published }[besides]
  const question = useMemo<Question | undefined>(
    () =>
      histories.value && {
        draft: settled,
        beside,
        histories: histories.value.histories,
        most: limits?.batchRequests ?? HISTORIES,
      },
    [settled, beside, histories.value, limits],
  )
  const answer = useLatest(ask, question)
  const refused = answer.value instanceof Refused ? asProblem(answer.value) : undefined
  const answered = answer.value instanceof Refused ? undefined : answer.value
  const problem = histories.problem ?? answer.problem ?? refused
  return (
    <section class="card preview" aria-label="Preview">
      <div class="card-head">
        <h2>On {histories.value?.why ? "a new person" : "ten people"}</h2>
        {!histories.value?.why && (
          <button type="button" onClick={shuffle}>
            Ten others
          </button>
        )}
      </div>
      {histories.value?.why && (
        <p class="note">{histories.value.why} The preview is for a person of whom nothing is known.</p>
      )}
      <label class="way">
        <span class="visually-hidden">Beside what the draft is shown</span>
        <select value={besides} onChange={(event) => setBeside(event.currentTarget.value as Beside)}>
          <option value="plain">beside the same filters, not steered</option>
          <option value="without">beside the list without this scenario</option>
          {published && (
            <option value="published">beside what is published (version {String(published.version)})</option>
          )}
        </select>
      </label>
      {problem && (!problem.temporary || !answered) && <ProblemBox problem={problem} />}
      {!problem && !answered && <Loading lines={8} />}
      {answered && !refused && (
        <Outcome answered={answered} of={answer.of?.draft ?? settled} names={names} beside={besides} />
      )}
    </section>
  )
}

function Outcome({
  answered,
  of,
  names,
  beside,
}: {
  answered: Answered[]
  of: Scenario
  names: Names
  beside: Beside
}) {
  const [shown, setShown] = useState<Answered>()
  const overlaps = answered.map(({ before, after }) => compared(before, after).overlap)
  const overlap = overlaps.reduce((sum, each) => sum + each, 0) / Math.max(1, overlaps.length)
  const notes = noted(answered, names)
  const wide = matchMedia("(min-width: 761px)").matches
  return (
    <>
      <p class="overlap-mean" role="status">
        <strong>{percent(overlap)}</strong> {BESIDES[beside]}, on average
      </p>
      <Controls means={means(answered.map(({ response }) => response))} of={of} names={names} />
      {notes.map(({ note, people }) => (
        <p class="warning" key={note}>
          {note}
          {answered.length > 1 && ` (${people} of ${answered.length})`}
        </p>
      ))}
      <details open={wide}>
        <summary>{answered.length > 1 ? "Person by person" : "The list"}</summary>
        <ul class="people">
          {answered.map((one, index) => (
            <Person key={index} answered={one} show={() => setShown(one)} />
          ))}
        </ul>
      </details>
      {shown && (
        <Both
          answered={answered.find(({ history }) => history === shown.history) ?? shown}
          close={() => setShown(undefined)}
          beside={beside}
        />
      )}
    </>
  )
}

const MOST_NOTES = 3

/** What composition could not hold, with titles for ids, and for how many: the most first. */
function noted(answered: Answered[], names: Names): { note: string; people: number }[] {
  const people = new Map<string, number>()
  for (const { response } of answered)
    for (const note of new Set(response.compositionNotes)) people.set(note, (people.get(note) ?? 0) + 1)
  return [...people]
    .map(([note, times]) => ({
      note: note.replace(/^pinned item '(.*)':/, (_, id: string) => `${names.item(id)} is not shown first:`),
      people: times,
    }))
    .sort((one, other) => other.people - one.people)
    .slice(0, MOST_NOTES)
}

function Controls({ means, of, names }: { means: Mean[]; of: Scenario; names: Names }) {
  const told = means.flatMap((mean, index) => {
    const control = of.controls[index]
    return control && (mean.before !== undefined || mean.goals)
      ? [{ ...mean, name: targetName(control, names), index }]
      : []
  })
  if (!told.length) return null
  return (
    <ul class="shares" aria-label="What the controls do">
      {told.map(({ index, name, before, after, goals, reached, strength }) => (
        <li key={index}>
          <strong>{name}</strong>
          {before !== undefined && after !== undefined && (
            <>
              {" "}
              {percent(before)} of the list <span aria-hidden="true">→</span>
              <span class="visually-hidden">to</span> {percent(after)}
            </>
          )}
          {goals > 0 && (
            <small>
              {" "}
              goal reached for {reached} of {goals}, at {strength.toFixed(2)} on average
            </small>
          )}
        </li>
      ))}
    </ul>
  )
}

const listed = (titles: string[], most: number): string =>
  titles.slice(0, most).join(", ") + (titles.length > most ? ` and ${titles.length - most} more` : "")

function Person({ answered: { history, before, after }, show }: { answered: Answered; show: () => void }) {
  const { rows, left, overlap } = compared(before, after)
  const entered = rows.filter(({ mark }) => mark === "entered").map(({ title }) => title)
  const name = history.latestTitles.length ? listed(history.latestTitles, 2) : "A new person"
  return (
    <li class="person">
      <div class="person-head">
        <span>
          {history.latestTitles.length > 0 && <small>last: </small>}
          {name}
        </span>
        <span class="person-overlap">{percent(overlap)} stays</span>
      </div>
      {!entered.length && !left.length && (
        <p class="note">{rows.some(({ mark }) => mark) ? "The same items, in another order." : "The same list."}</p>
      )}
      {entered.length > 0 && (
        <p>
          <span class="up">in</span> {listed(entered, 3)}
        </p>
      )}
      {left.length > 0 && (
        <p>
          <span class="down">out</span>{" "}
          {listed(
            left.map(({ title }) => title),
            3,
          )}
        </p>
      )}
      <button type="button" class="link" aria-label={`Both lists of the person who saw ${name} last`} onClick={show}>
        Both lists
      </button>
    </li>
  )
}

function Both({
  answered: { history, before, after },
  close,
  beside,
}: {
  answered: Answered
  close: () => void
  beside: Beside
}) {
  const { rows, left } = compared(before, after)
  const gone = new Set(left.map(({ itemId }) => itemId))
  const old = before.map(({ itemId, title }): Row =>
    gone.has(itemId) ? { id: itemId, title, mark: "left" } : { id: itemId, title },
  )
  const seen = history.history?.itemIds.length ?? 0
  return (
    <Dialog title={seen ? `After ${count(seen)} ${seen === 1 ? "item" : "items"}` : "A new person"} close={close}>
      {seen > 0 && <p class="muted">The latest: {history.latestTitles.join(", ")}</p>}
      <div class="pair">
        <div>
          <h3>{BEFORE[beside]}</h3>
          <ItemList rows={old} label={BEFORE[beside]} />
        </div>
        <div>
          <h3>With this draft</h3>
          <ItemList rows={rows} label="With this draft" />
        </div>
      </div>
      <p class="note">{plural(left.length, "item leaves", "items leave")} the list.</p>
    </Dialog>
  )
}
