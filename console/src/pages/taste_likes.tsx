// The features that are active for a person, each with a slider.

import type { Call } from "../calls"
import { controlKey, hasStrength, strengthOf, withStrength } from "../changes"
import { Bars } from "../components/bars"
import { Slider } from "../components/slider"
import { Empty, ProblemBox } from "../components/states"
import type { ActiveFeature, EventInfluence } from "../gen/steersman/v1/explanation_service_pb"
import type { Control } from "../gen/steersman/v1/control_pb"
import { percent, signed } from "../format"
import { useKnown } from "../known"
import { controlName, featureName, isClear } from "../names"
import { added, changed, reach } from "../request"
import { address } from "../route"
import type { PersonProps } from "./taste"

export interface LikesProps extends PersonProps {
  features: ActiveFeature[]
  /** Of the spread of scores. */
  unexplained: number
  /** Names of controls that the server gave. */
  names: Map<string, string>
  /** No event of the history is known. */
  isEmpty: boolean
  /** By feature: which events carry it. */
  carried: Call<Map<number, EventInfluence[]> | undefined>
  isCarriedAsked: boolean
  askCarried: () => void
}

export function Likes(props: LikesProps) {
  const { features, unexplained, isEmpty, carried, isCarriedAsked, askCarried } = props
  const clear = features.filter(({ label }) => isClear(label))
  const unclear = features.filter(({ label }) => !isClear(label))
  return (
    <>
      <div class="card-head">
        <h2>What the model thinks this person likes</h2>
        <button
          type="button"
          disabled={isCarriedAsked && !carried.problem}
          onClick={isCarriedAsked ? carried.reload : askCarried}
        >
          {isCarriedAsked && carried.loading ? "Looking" : "Which events say so?"}
        </button>
      </div>
      <p class="note">
        {isEmpty
          ? "It knows none of the events: this is what it thinks of somebody new."
          : "Turn down what is wrong, turn up what is missing. Strengths are those of Try: 1 is a strong push."}
      </p>
      {carried.problem && <ProblemBox problem={carried.problem} retry={carried.reload} />}
      {!features.length && <Empty title="No feature is active">There is nothing to turn down.</Empty>}
      <Others {...props} />
      {clear.map((feature) => (
        <Like key={feature.featureId} feature={feature} {...props} />
      ))}
      {unclear.length > 0 && (
        <details class="unclear">
          <summary>
            {unclear.length} more without a clear meaning (
            {percent(unclear.reduce((sum, { spreadShare }) => sum + spreadShare, 0))} of what decides the list)
          </summary>
          {unclear.map((feature) => (
            <Like key={feature.featureId} feature={feature} {...props} />
          ))}
        </details>
      )}
      {features.length > 0 && (
        <p class="note">
          {percent(unexplained)} of what decides the list is in no feature: it cannot be turned down here.
        </p>
      )}
    </>
  )
}

function useFeatureTarget(id: number): Control["target"] {
  const { info } = useKnown()
  const value = { $typeName: "steersman.v1.FeatureRef" as const, id, bundleVersion: info.bundleVersion }
  return { case: "feature", value }
}

function Like({ feature, ...props }: LikesProps & { feature: ActiveFeature }) {
  const { featureId, label, activation, spreadShare } = feature
  const events = props.carried.value?.get(featureId)
  const part = Math.max(0, Math.min(1, spreadShare))
  return (
    <Turn
      {...props}
      target={useFeatureTarget(featureId)}
      name={featureName(label, featureId)}
      note={
        <span class="like-note">
          <svg class="like-meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
            <rect class="like-all" width="100" height="6" />
            <rect class="like-part" width={100 * Math.min(1, activation)} height="6" />
          </svg>
          <span>
            {percent(activation)} as strong as it is ever seen · {percent(spreadShare)} of what decides the list
            {part !== spreadShare && " (it works against the rest)"} ·{" "}
            <a href={address("features", { id: `${featureId}` })}>
              about it<span class="visually-hidden">: {featureName(label, featureId)}</span>
            </a>
          </span>
        </span>
      }
    >
      {events && <Events events={events} name={featureName(label, featureId)} />}
    </Turn>
  )
}

const title = ({ title, itemId }: EventInfluence) => title || `item ${itemId}`

// In parts of the natural maximum; less is said to be none.
const LEAST_CHANGE = 0.005
const NAMED = 2

function Events({ events, name }: { events: EventInfluence[]; name: string }) {
  const felt = events.filter(({ activationChange }) => Math.abs(activationChange) >= LEAST_CHANGE)
  if (!felt.length) return <p class="note">No single event carries it.</p>
  const named = (word: string, sign: number) => {
    const some = felt.filter(({ activationChange }) => sign * activationChange > 0)
    return some.length ? `${word} by ${some.slice(0, NAMED).map(title).join(" and ")}` : ""
  }
  return (
    <details class="carried">
      <summary>{[named("raised", 1), named("lowered", -1)].filter(Boolean).join(", ")}</summary>
      <p class="note">What each event adds to it; 100% is as strong as it is ever seen.</p>
      <Bars
        label={`Events that change ${name}`}
        bars={felt.map((event) => ({
          key: `${event.place}`,
          label: title(event),
          amount: event.activationChange,
          text: `${signed(100 * event.activationChange, 0)}%`,
        }))}
      />
    </details>
  )
}

interface TurnProps extends PersonProps {
  target: Control["target"]
  name: string
  note?: preact.ComponentChildren
  children?: preact.ComponentChildren
}

/** A slider that stands at what is kept and what is changed, together. */
function Turn({ request, setRequest, session, target, name, note, children }: TurnProps) {
  const key = controlKey(added(target, 1))
  const kept = strengthOf(session?.controls ?? [], key)
  const value = kept + strengthOf(request.controls, key)
  const set = (strength: number) =>
    setRequest(
      changed(request, (copy) => {
        copy.controls = withStrength(copy.controls, target, strength - kept)
      }),
    )
  return (
    <Slider label={name} value={value} reach={reach(added(target, 1))} change={set} note={note}>
      {kept !== 0 && <p class="note">Kept with the session: {signed(kept)}</p>}
      {children}
    </Slider>
  )
}

/** What is changed or kept beside what is active now. */
function Others(props: LikesProps) {
  const { request, session, features, names } = props
  const known = useKnown()
  const active = new Set(features.map(({ featureId }) => `feature:${featureId}:${known.info.bundleVersion}`))
  const all = [...(session?.controls ?? []), ...request.controls]
  const others = new Map(all.filter((each) => !active.has(controlKey(each))).map((each) => [controlKey(each), each]))
  if (!others.size) return null
  return (
    <div class="others">
      <h3>Other changes</h3>
      {[...others].map(([key, control]) =>
        hasStrength(control) ? (
          <Turn key={key} {...props} target={control.target} name={controlName(control, known, names)} />
        ) : (
          <p key={key} class="note">
            {controlName(control, known, names)}: {control.goal ? "a goal" : "an operation"} that has no slider; see
            Try.
          </p>
        ),
      )}
    </div>
  )
}
