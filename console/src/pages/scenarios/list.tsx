// All scenarios: what each does, who published it last, and how it stands with the bundle that is served.

import { scenarios } from "../../api"
import { useCall } from "../../calls"
import { Answer, Empty } from "../../components/states"
import { plural } from "../../format"
import type { Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import { targetName, type Names } from "../../target_names"
import { useNames } from "../../use_target_names"
import { address } from "../../route"
import { drafts } from "./drafts"
import { StandingChip, useReplays } from "./replay"
import { howStrong } from "./text"
import { by, when } from "./when"

async function all(signal: AbortSignal): Promise<Scenario[]> {
  const found: Scenario[] = []
  let pageToken = ""
  do {
    const page = await scenarios.listScenarios({ pageSize: 1000, pageToken }, { signal })
    found.push(...page.scenarios)
    pageToken = page.nextPageToken
  } while (pageToken)
  return found
}

export function ScenarioList() {
  const call = useCall(all, [])
  const fresh = drafts().includes("")
  return (
    <>
      <div class="row page-head">
        <p class="grow muted lead">
          A scenario is what a place on a page shows: its controls, filters and order, under one name. Apps ask for it
          by that name.
        </p>
        <a class="button" href={address("scenarios", { view: "changes" })}>
          All changes
        </a>
        <a class="button primary" href={address("scenarios", { view: "new" })}>
          {fresh ? "Go on with the new one" : "New scenario"}
        </a>
      </div>
      <Answer call={call} lines={6}>
        {(found) =>
          found.length ? (
            <Cards found={found} />
          ) : (
            <div class="card">
              <Empty title="There are no scenarios yet">
                Make one here, or from what you have set on page <a href={address("try")}>Try</a>.
              </Empty>
            </div>
          )
        }
      </Answer>
    </>
  )
}

function Cards({ found }: { found: Scenario[] }) {
  const names = useNames(found)
  const replays = useReplays([])
  const unsaved = drafts()
  return (
    <>
      {replays.problem && !replays.problem.temporary && (
        <p class="note">How they stand with this bundle is not known: {replays.problem.detail}</p>
      )}
      <ul class="scenario-cards">
        {found.map((scenario) => {
          const replay = replays.value?.get(scenario.name)
          return (
            <li key={scenario.name} class="card">
              <div class="card-head">
                <h2>
                  <a href={address("scenarios", { name: scenario.name })}>{scenario.name}</a>
                </h2>
                <span class="chips-inline">
                  {unsaved.includes(scenario.name) && (
                    <span class="chip standing-moved">not published: changes of yours</span>
                  )}
                  {replay && (
                    <a class="chip-link" href={address("scenarios", { name: scenario.name, view: "replay" })}>
                      <StandingChip replay={replay} />
                    </a>
                  )}
                </span>
              </div>
              {scenario.description && <p>{scenario.description}</p>}
              <p class="scenario-does">{summary(scenario, names)}</p>
              <p class="note">
                Version {String(scenario.version)}, {by(scenario.updatedBy)}, {when(scenario.updated)}
              </p>
            </li>
          )
        })}
      </ul>
    </>
  )
}

const MOST_CONTROLS = 3

function summary({ controls, filters, composition }: Scenario, names: Names): string {
  const parts = controls
    .slice(0, MOST_CONTROLS)
    .map((control) => `${targetName(control, names)} ${howStrong(control, names)}`)
  if (controls.length > MOST_CONTROLS) parts.push(`${controls.length - MOST_CONTROLS} more`)
  const conditions =
    (filters?.attributes.length ?? 0) + (filters?.denyItemIds.length ? 1 : 0) + (filters?.allowItemIds.length ? 1 : 0)
  if (conditions) parts.push(plural(conditions, "filter"))
  if (composition?.pinnedItemIds.length) parts.push(`${composition.pinnedItemIds.length} always first`)
  if (composition?.diversity) parts.push("more variety")
  return parts.length ? parts.join(" · ") : "Nothing is steered"
}
