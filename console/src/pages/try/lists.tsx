// The plain and the steered list, side by side, and what changed from one to the other.

import { Code } from "@connectrpc/connect"
import { useMemo, useState } from "preact/hooks"
import type { Call } from "../../calls"
import { compared, ItemList, type Row } from "../../components/items"
import { Empty, Loading, ProblemBox } from "../../components/states"
import { count, percent } from "../../format"
import type { RecommendResponse, SideEffect } from "../../gen/steersman/v1/recommendation_service_pb"
import { knownItem } from "../../known-items"
import type { Request } from "../../request"
import { attributeLine, isDescriptive } from "./attributes"
import { remarks } from "./steering"
import type { Steered } from "./steered"

interface ListsProps {
  request: Request
  plain: Call<RecommendResponse>
  steered: Steered
  chosen: string
  choose: (id: string) => void
}

// A line of its own for each item, also before its attributes are known: rows must not change their height during a drag.
const note = (id: string): string => attributeLine(knownItem(id)?.attributes ?? []) || "\u00a0"

export function Lists({ request, plain, steered, chosen, choose }: ListsProps) {
  const [showsPlain, setShowsPlain] = useState(false)
  const before = plain.value?.items
  const after = steered.list?.items
  const change = useMemo(() => before && after && compared(before, after), [before, after])
  const steeredRows = useMemo(
    () =>
      change?.rows.map((row): Row => ({ ...row, note: note(row.id) })) ??
      after?.map(({ itemId, title }): Row => ({ id: itemId, title, note: note(itemId) })),
    [change, after],
  )
  const left = change?.left.map(({ itemId }) => itemId).join("\n") ?? ""
  const plainRows = useMemo(() => {
    const gone = new Set(left.split("\n"))
    return before?.map(({ itemId, title }): Row => {
      const row = { id: itemId, title, note: note(itemId) }
      return gone.has(itemId) ? { ...row, mark: "left" } : row
    })
  }, [before, left])
  return (
    <div class="try-lists">
      <section class={showsPlain ? "card try-plain" : "card try-plain try-plain-folded"} aria-labelledby="plain-title">
        <div class="card-head">
          <h2 id="plain-title">Without steering</h2>
          <button
            type="button"
            class="link try-unfold"
            aria-expanded={showsPlain}
            onClick={() => setShowsPlain(!showsPlain)}
          >
            {showsPlain ? "Hide" : "Show"}
          </button>
          <span class="muted try-about">
            {plain.value ? `${count(plain.value.eligibleItems)} items to choose from` : ""}
          </span>
        </div>
        <div class="try-fold">
          {useMemo(
            () => (
              <OneList
                rows={plainRows}
                label="Without steering"
                problem={plain.problem}
                reload={plain.reload}
                chosen={chosen}
                choose={choose}
              />
            ),
            [plainRows, plain.problem, chosen, choose],
          )}
          {request.sessionId && (plain.value?.appliedControls.length ?? 0) > 0 && (
            <p class="note">Controls of the session act on this list, too.</p>
          )}
        </div>
      </section>
      <section class="card try-steered" aria-labelledby="steered-title">
        <div class="card-head">
          <h2 id="steered-title">Steered</h2>
          <span class="muted">{change ? words(change, isSteered(request, steered)) : ""}</span>
        </div>
        <OneList
          rows={steeredRows}
          label="Steered"
          problem={steered.problem}
          reload={steered.reload}
          chosen={chosen}
          choose={choose}
        />
        {steered.list &&
          remarks(steered.list).map((remark) => (
            <p key={remark} class="warning">
              {remark}
            </p>
          ))}
        <Effects answer={steered.whole} stale={steered.wholeOf !== request} />
      </section>
    </div>
  )
}

const isSteered = (request: Request, steered: Steered): boolean =>
  request.controls.length > 0 || request.scenario !== "" || (steered.list?.appliedControls.length ?? 0) > 0

function words({ rows, left }: ReturnType<typeof compared>, steers: boolean): string {
  const kept = rows.filter(({ mark }) => mark !== "entered").length
  if (!left.length && rows.every(({ mark }) => !mark)) return steers ? "the same list" : "nothing is turned yet"
  if (!left.length) return "the same items, in another order"
  return `${kept} of ${rows.length} stay, ${count(rows.length - kept)} new`
}

interface OneListProps {
  rows: Row[] | undefined
  label: string
  problem: Steered["problem"]
  reload: () => void
  chosen: string
  choose: (id: string) => void
}

function OneList({ rows, label, problem, reload, chosen, choose }: OneListProps) {
  const refused = problem && (!rows || !problem.temporary)
  return (
    <>
      {refused && <ProblemBox problem={problem} retry={reload} />}
      {problem && !refused && problem.code !== Code.Unavailable && (
        <p class="warning" role="alert">
          {problem.title}: this is the list before.{" "}
          <button type="button" class="link" onClick={reload}>
            Try again
          </button>
        </p>
      )}
      {!rows && !problem && <Loading lines={10} />}
      {rows && rows.length === 0 && (
        <Empty title="No item fits">The filters leave nothing: take one away, or allow items of the history.</Empty>
      )}
      {rows && rows.length > 0 && (
        <div class={refused ? "try-stale" : undefined}>
          <ItemList rows={rows} label={label} chosen={chosen} choose={choose} />
        </div>
      )}
    </>
  )
}

const effect = ({ value, shareBefore, shareAfter }: SideEffect): string =>
  `${value} ${percent(shareBefore)} → ${percent(shareAfter)}`

function Effects({ answer, stale }: { answer: RecommendResponse | undefined; stale: boolean }) {
  const receipt = answer?.receipt
  if (!receipt || !answer.appliedControls.length) return null
  const said = receipt.sideEffects.filter(({ attribute }) => isDescriptive(attribute))
  const kept = receipt.ndcgKeptEstimate
  if (!said.length && kept === undefined) return null
  return (
    <div class={stale ? "try-effects try-stale" : "try-effects"}>
      {said.length > 0 && (
        <>
          <h3>What else moved</h3>
          <ul class="row">
            {said.map((each) => (
              <li key={`${each.attribute}:${each.value}`} class="chip">
                {effect(each)}
              </li>
            ))}
          </ul>
        </>
      )}
      {kept !== undefined && (
        <p class="note">
          Estimate: such a list keeps {percent(kept)} of the accuracy of the plain one (NDCG@10, measured at training).
        </p>
      )}
    </div>
  )
}
