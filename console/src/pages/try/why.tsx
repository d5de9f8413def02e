// Why an item is in the list, or not: the exact account of its score, and what would change it.

import { create, type MessageInitShape } from "@bufbuild/protobuf"
import { useEffect, useRef, useState } from "preact/hooks"
import { explanations, features, problem as problemOf, type Problem } from "../../api"
import { useCall, useSettled } from "../../calls"
import { Bars, type Bar } from "../../components/bars"
import { Search } from "../../components/search"
import { Answer, Loading, ProblemBox } from "../../components/states"
import { percent, signed } from "../../format"
import { featureName } from "../../names"
import {
  ChangeQuerySchema,
  ChangeStatus,
  type Account,
  type Change,
  type ExplainResponse,
} from "../../gen/steersman/v1/explanation_service_pb"
import type { Control } from "../../gen/steersman/v1/control_pb"
import { AnswerPart } from "../../gen/steersman/v1/recommendation_service_pb"
import { useItems } from "../../known-items"
import { useKnown } from "../../known"
import { changed, type Request } from "../../request"
import { withMore } from "./controls"
import { withoutEvents } from "./histories"
import { REST_MS } from "./steered"
import { appliedName, findTargets, learnTarget, targetName, type Target } from "./targets"
import { findItems } from "./sliders"

const TOP_FEATURES = 6

interface WhyProps {
  request: Request
  setRequest: (request: Request) => void
  /** Empty: none is chosen. */
  item: string
  choose: (id: string) => void
}

export function WhyCard({ request, setRequest, item, choose }: WhyProps) {
  // A link opens at the top of the page, also where it explains an item.
  const ofLink = useRef(item)
  const reveal = item !== ofLink.current
  useEffect(() => {
    if (!item) ofLink.current = ""
  }, [item])
  return (
    <section class="card try-why" aria-labelledby="why-title">
      <div class="card-head">
        <h2 id="why-title">Why this one?</h2>
        {item && (
          <button type="button" class="icon" aria-label="Close the explanation" onClick={() => choose("")}>
            ×
          </button>
        )}
      </div>
      {item ? (
        <Why key={item} request={request} setRequest={setRequest} item={item} reveal={reveal} />
      ) : (
        <p class="note">Choose an item of a list to see what its score is made of, and what would change its place.</p>
      )}
      <Search label="Why not … ? Find any other item" find={findItems} choose={({ key }) => choose(key)} />
    </section>
  )
}

const explained = (request: Request): Request =>
  changed(request, (copy) => {
    copy.parts = [AnswerPart.NONE]
    copy.receipt = false
    copy.newEvents = []
  })

type ChangeInit = MessageInitShape<typeof ChangeQuerySchema>

const explain = (request: Request, item: string, signal?: AbortSignal, change?: ChangeInit): Promise<ExplainResponse> =>
  explanations.explain(
    {
      request: explained(request),
      itemIds: [item],
      topFeatures: TOP_FEATURES,
      ...(change && { change: create(ChangeQuerySchema, change) }),
    },
    { signal },
  )

function Why({ request, setRequest, item, reveal }: Omit<WhyProps, "choose"> & { reveal: boolean }) {
  const settled = useSettled(request, REST_MS)
  const call = useCall((signal) => explain(settled, item, signal), [settled, item])
  const region = useRef<HTMLDivElement>(null)
  useEffect(() => {
    if (reveal && call.value) region.current?.scrollIntoView({ block: "nearest", behavior: "smooth" })
  }, [call.value === undefined])
  return (
    <div ref={region} class={settled !== request ? "try-stale" : undefined}>
      <Answer call={call} lines={6}>
        {(value) => {
          const account = value.accounts.find(({ itemId }) => itemId === item)
          if (!account) return <p class="note">This bundle does not know the item.</p>
          return (
            <>
              <AccountBars account={account} answer={value} k={request.k || 10} />
              <Changes request={request} setRequest={setRequest} account={account} />
            </>
          )
        }}
      </Answer>
    </div>
  )
}

function AccountBars({ account, answer, k }: { account: Account; answer: ExplainResponse; k: number }) {
  const { concepts } = useKnown()
  const applied = answer.recommendation?.appliedControls ?? []
  const bars: Bar[] = [
    ...account.controls.map((amount, index): Bar => ({
      key: `control:${index}`,
      label: `Steering: ${applied[index] ? appliedName(applied[index], concepts) : "a control"}`,
      amount,
      kind: "control",
    })),
    ...account.features.map(({ featureId, label, amount }): Bar => ({
      key: `feature:${featureId}`,
      label: featureName(label, featureId),
      amount,
    })),
    { key: "other", label: "All other features", amount: account.otherFeatures, kind: "rest" },
    { key: "unexplained", label: "What no feature explains", amount: account.unexplained, kind: "rest" },
    { key: "bias", label: "The item itself, for anyone", amount: account.bias, kind: "rest" },
  ]
  const sum = bars.reduce((total, { amount }) => total + amount, 0)
  return (
    <>
      <p class="try-why-title" role="status">
        <strong>{account.title}</strong>{" "}
        <span class="muted">
          {account.rank ? `number ${account.rank} of the list` : `not among the ${k} of the list`}
        </span>
      </p>
      <Bars bars={bars} label={`What the score of ${account.title} is made of`} />
      <p class="try-sum">
        <span>
          Sum = score <small>({answer.method === "path" ? "found feature by feature" : "an exact account"})</small>
        </span>
        <strong>{signed(sum)}</strong>
      </p>
    </>
  )
}

interface ChangesProps {
  request: Request
  setRequest: (request: Request) => void
  account: Account
}

interface Asked {
  waiting?: boolean
  change?: Change
  problem?: Problem
  /** For which request. */
  of: Request
}

function Changes({ request, setRequest, account }: ChangesProps) {
  const known = useKnown()
  const [asked, setAsked] = useState<Asked>()
  const [names, setNames] = useState(false)
  const abort = useRef<AbortController>(undefined)
  useEffect(() => () => abort.current?.abort(), [])
  const inList = account.rank > 0
  const ask = async (by: ChangeInit["by"]) => {
    abort.current?.abort()
    const own = (abort.current = new AbortController())
    setAsked({ waiting: true, of: request })
    setNames(false)
    try {
      const { change } = await explain(request, account.itemId, own.signal, { itemId: account.itemId, by })
      if (!own.signal.aborted) setAsked(change ? { change, of: request } : { of: request })
    } catch (error) {
      if (!own.signal.aborted) setAsked({ problem: problemOf(error), of: request })
    }
  }
  return (
    <div class="try-changes">
      <h3>{inList ? "What would take it off the list?" : "What would bring it into the list?"}</h3>
      <div class="row">
        <button type="button" onClick={() => ask({ case: "anyControl", value: true })}>
          The gentlest control
        </button>
        <button type="button" aria-expanded={names} onClick={() => setNames(!names)}>
          A control that I name
        </button>
        {inList && (
          <button type="button" onClick={() => ask({ case: "events", value: true })}>
            Another history
          </button>
        )}
      </div>
      {names && (
        <Search<Target>
          label="The control to turn"
          find={(text, signal) => findTargets(known, text, signal)}
          choose={({ control }) => {
            const either = changedStrength(control, 0)
            void ask({ case: "control", value: either })
          }}
        />
      )}
      {asked?.waiting && <Loading lines={2} label="Looking for a change" />}
      {asked?.problem && <ProblemBox problem={asked.problem} />}
      {asked?.change && asked.of === request && (
        <Found change={asked.change} request={request} setRequest={setRequest} title={account.title} />
      )}
      {asked && !asked.waiting && asked.of !== request && <p class="note">The request has changed since: ask again.</p>}
    </div>
  )
}

const changedStrength = (control: Control, strength: number): Control => ({ ...control, strength })

interface FoundProps {
  change: Change
  request: Request
  setRequest: (request: Request) => void
  title: string
}

function Found({ change, request, setRequest, title }: FoundProps) {
  const { concepts } = useKnown()
  const { control } = change
  const named = useFeatureName(control)
  const { titleOf } = useItems(
    change.control?.target.case === "items" ? change.control.target.value.itemIds : change.eventItemIds,
  )
  if (change.status !== ChangeStatus.FOUND)
    return (
      <p class="note" role="status">
        {change.wasInList
          ? `Nothing that was tried takes ${title} off the list.`
          : `Nothing that was tried brings ${title} into the list.`}
      </p>
    )
  const effect = change.wasInList ? "it is off the list" : "it is in the list"
  const keeps = `${percent(change.overlap)} of the present list stays.`
  if (control)
    return (
      <div class="try-found" role="status">
        <p>
          With <strong>{named ?? targetName(control, concepts, titleOf)}</strong> turned by{" "}
          <strong>{signed(control.strength)}</strong>, {effect}. {keeps}
        </p>
        <button type="button" class="primary" onClick={() => setRequest(withMore(request, control))}>
          Apply
        </button>
      </div>
    )
  return (
    <div class="try-found" role="status">
      <p>
        Had this person never met <strong>{change.eventItemIds.map(titleOf).join(", ")}</strong>, {effect}. {keeps}
      </p>
      {request.history ? (
        <button type="button" class="primary" onClick={() => setRequest(withoutEvents(request, change.eventItemIds))}>
          Apply
        </button>
      ) : (
        <p class="note">A session keeps its history: this cannot be applied to it.</p>
      )}
    </div>
  )
}

/** Of a feature that no answer has named yet. */
function useFeatureName(control: Control | undefined): string | undefined {
  const ref = control?.target.case === "feature" ? control.target.value : undefined
  const call = useCall(
    async (signal) =>
      ref
        ? (await features.getFeature({ id: ref.id, bundleVersion: ref.bundleVersion }, { signal })).feature
        : undefined,
    [ref?.id, ref?.bundleVersion],
  )
  if (call.value && control) learnTarget({ control, label: featureName(call.value.label, call.value.id) })
  return call.value && featureName(call.value.label, call.value.id)
}
