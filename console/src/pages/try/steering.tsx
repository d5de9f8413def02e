// What steers the list: a search for controls, their sliders, and a scenario.

import { Code } from "@connectrpc/connect"
import { useEffect, useRef } from "preact/hooks"
import { scenarios } from "../../api"
import { useCall } from "../../calls"
import { Search } from "../../components/search"
import type { Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import type { RecommendResponse } from "../../gen/steersman/v1/recommendation_service_pb"
import { useKnown } from "../../known"
import { changed, targetKey, type Request } from "../../request"
import { isDescriptive } from "./attributes"
import { outcomes, withControl, withMore, withoutControl } from "./controls"
import { ControlSlider, OtherControls } from "./sliders"
import type { Steered } from "./steered"
import { conceptTarget, findConcepts, findTargets, learnTarget, type Target } from "./targets"

const SUGGESTED = 6
// Of servers that do not say.
const MOST_GOALS = 4

export interface SteeringProps {
  request: Request
  setRequest: (request: Request) => void
  steered: Steered
}

export function SteeringCard({ request, setRequest, steered }: SteeringProps) {
  const known = useKnown()
  const list = useRef<HTMLDivElement>(null)
  const title = useRef<HTMLHeadingElement>(null)
  // The slider of a control that was just added is reached next.
  const reachNext = useRef("")
  useEffect(() => {
    if (!reachNext.current) return
    const at = request.controls.findIndex((control) => targetKey(control) === reachNext.current)
    list.current
      ?.querySelectorAll<HTMLElement>(":scope > .slider")
      [at]?.querySelector<HTMLElement>("input[type=range]")
      ?.focus()
    reachNext.current = ""
  }, [request])
  const add = (target: Target) => {
    const { control } = target
    learnTarget(target)
    reachNext.current = targetKey(control)
    const isThere = request.controls.some((each) => targetKey(each) === reachNext.current)
    setRequest(isThere ? changed(request, () => undefined) : withMore(request, control))
  }
  // What had the focus is gone.
  const put = (next: Request) => {
    title.current?.focus()
    setRequest(next)
  }
  const described = known.concepts.filter(({ attribute }) => isDescriptive(attribute))
  const most = known.info.limits?.controls ?? 0
  return (
    <section class="card" aria-labelledby="steering-title">
      <div class="card-head">
        <h2 id="steering-title" ref={title} tabIndex={-1}>
          Steer
        </h2>
        {request.controls.length > 0 && (
          <button type="button" class="link" onClick={() => put(changed(request, (copy) => void (copy.controls = [])))}>
            Clear all
          </button>
        )}
      </div>
      {request.controls.length < most ? (
        <Search
          label="Genre, feature, title or words"
          find={(text, signal) => findTargets(known, text, signal)}
          choose={add}
        />
      ) : (
        <p class="note">A request takes at most {most} controls.</p>
      )}
      {request.controls.length === 0 && (
        <div class="row try-picks" role="group" aria-label="Suggestions">
          {findConcepts(described, "", SUGGESTED).map((concept) => (
            <button key={concept.name} type="button" class="chip" onClick={() => add(conceptTarget(concept))}>
              {concept.displayName || concept.name}
            </button>
          ))}
        </div>
      )}
      <Sliders
        list={list}
        request={request}
        setRequest={setRequest}
        steered={steered}
        remove={(index) => put(withoutControl(request, index))}
      />
      <ScenarioChoice request={request} setRequest={setRequest} />
    </section>
  )
}

function Sliders({
  list,
  request,
  setRequest,
  steered,
  remove,
}: SteeringProps & { list: { current: HTMLDivElement | null }; remove: (index: number) => void }) {
  const known = useKnown()
  // What every step of a drag answers says nothing new about the controls: they are drawn again with whole answers.
  const newest = steered.whole ?? steered.list
  const outcome = newest && outcomes(newest)
  const stale = steered.wholeOf !== request
  const isSame = sameTargets(steered.wholeOf, request)
  const goalsLeft = (known.info.limits?.goals || MOST_GOALS) - request.controls.filter(({ goal }) => goal).length
  return (
    <>
      <div ref={list} class="try-sliders">
        {request.controls.map((control, index) => (
          <ControlSlider
            // An item set stays the same slider when its items change.
            key={control.target.case === "items" ? `items:${index}` : `${targetKey(control)}:${index}`}
            control={control}
            known={known}
            outcome={isSame ? outcome?.own[index] : undefined}
            stale={stale}
            goalsLeft={goalsLeft}
            change={(next) => setRequest(withControl(request, index, next))}
            remove={() => remove(index)}
          />
        ))}
      </div>
      <OtherControls outcomes={outcome?.others ?? []} concepts={known.concepts} />
    </>
  )
}

/** Whether an answer is of the same controls, at whatever strengths. */
const sameTargets = (of: Request | undefined, request: Request): boolean =>
  of?.controls.length === request.controls.length &&
  of.controls.every((each, place) => targetKey(each) === targetKey(request.controls[place]!))

async function allScenarios(signal: AbortSignal): Promise<Scenario[]> {
  return (await scenarios.listScenarios({ pageSize: 1000 }, { signal })).scenarios
}

function ScenarioChoice({ request, setRequest }: Omit<SteeringProps, "steered">) {
  const call = useCall(allScenarios, [])
  const names = call.value?.map(({ name }) => name) ?? []
  const { scenario } = request
  if (call.problem && !call.value && !scenario)
    return (
      <p class="note">
        {call.problem.code === Code.Unimplemented
          ? "This server is older and knows no scenarios."
          : "Scenarios cannot be read at the moment: the session store is away."}
      </p>
    )
  if (!names.length && !scenario) return null
  return (
    <label class="field try-scenario">
      <span>Scenario</span>
      <select
        value={scenario}
        onChange={(event) => {
          const next = event.currentTarget.value
          setRequest(changed(request, (copy) => void (copy.scenario = next)))
        }}
      >
        <option value="">none</option>
        {[...new Set([...names, ...(scenario ? [scenario] : [])])].map((name) => (
          <option key={name} value={name}>
            {name}
            {call.value && !names.includes(name) ? " (is not there)" : ""}
          </option>
        ))}
      </select>
      {describe(call.value, scenario)}
    </label>
  )
}

function describe(all: Scenario[] | undefined, name: string) {
  const about = all?.find((each) => each.name === name)?.description
  return about ? <span class="note">{about}</span> : null
}

/** What an answer says that people should know before they trust it. */
export function remarks(answer: RecommendResponse): string[] {
  const said = [...answer.compositionNotes]
  if (answer.degradations.length)
    said.push("The session could not be read in full: this list is made from what the request carries.")
  if (answer.unknownFilterIds)
    said.push(`${answer.unknownFilterIds} of the items that filters name are not in this bundle.`)
  return said
}
