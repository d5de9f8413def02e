// How scenarios stand with the bundle that is served: what they did when they were published, and what they do now.

import { Code } from "@connectrpc/connect"
import { scenarios } from "../../api"
import { useCall, type Call } from "../../calls"
import { Answer, Empty } from "../../components/states"
import { percent, plural, short } from "../../format"
import {
  ReplayStatus,
  type ReplayedEffect,
  type Scenario,
  type ScenarioReplay,
} from "../../gen/steersman/v1/scenario_service_pb"
import { conceptName } from "../../target_names"
import { useKnown, type Known } from "../../known"

export type Standing = "held" | "moved" | "broken" | "same" | "unknown"

const WORDS: Record<Standing, string> = {
  held: "holds",
  moved: "does something else",
  broken: "broken",
  same: "put under this bundle",
  unknown: "not measured",
}

export function standing({ status, histories }: ScenarioReplay): Standing {
  switch (status) {
    case ReplayStatus.HELD:
      return "held"
    case ReplayStatus.MOVED:
      return "moved"
    case ReplayStatus.BROKEN:
      return "broken"
    default:
      return histories ? "same" : "unknown"
  }
}

export function StandingChip({ replay }: { replay: ScenarioReplay }) {
  const how = standing(replay)
  return <span class={`chip standing-${how}`}>{WORDS[how]}</span>
}

/** By name; null where the server does not know the call. */
export function useReplays(names: string[]): Call<Map<string, ScenarioReplay> | null> {
  return useCall(
    async (signal) => {
      const replays = new Map<string, ScenarioReplay>()
      let pageToken = ""
      try {
        do {
          const page = await scenarios.replayScenarios({ names, pageToken }, { signal })
          for (const replay of page.replays) replays.set(replay.name, replay)
          pageToken = page.nextPageToken
        } while (pageToken)
        return replays
      } catch (error) {
        if ((error as { code?: Code }).code === Code.Unimplemented) return null
        throw error
      }
    },
    [names.join(" ")],
  )
}

export function Replay({ scenario }: { scenario: Scenario }) {
  const known = useKnown()
  const call = useReplays([scenario.name])
  return (
    <section class="card" aria-label="With the bundle that is served">
      <h2>With the bundle that is served</h2>
      <Answer call={call}>
        {(replays) => {
          const replay = replays?.get(scenario.name)
          if (!replays)
            return <Empty title="This server is older">It cannot compare what a scenario does under two bundles.</Empty>
          if (!replay) return <Empty title="The server said nothing of it" />
          return <Standing replay={replay} known={known} />
        }}
      </Answer>
    </section>
  )
}

function Standing({ replay, known }: { replay: ScenarioReplay; known: Known }) {
  const how = standing(replay)
  const before = replay.bundleVersionBefore
  return (
    <>
      <p>
        <StandingChip replay={replay} />
      </p>
      <p>{sentence(replay, how)}</p>
      {how === "broken" && <p class="warning">{replay.problem}</p>}
      {replay.effects.length > 0 && (
        <div class="table-scroll" tabIndex={0} role="region" aria-label="Effects, then and now">
          <table>
            <caption class="visually-hidden">What the scenario did when it was published, and what it does now</caption>
            <thead>
              <tr>
                <th scope="col">Mean over {plural(replay.histories, "person", "people")}</th>
                <th scope="col" class="number">
                  Then
                </th>
                <th scope="col" class="number">
                  May be
                </th>
                <th scope="col" class="number">
                  Now
                </th>
                <td class="interval-cell" />
              </tr>
            </thead>
            <tbody>
              {replay.effects.map((effect) => (
                <tr key={effect.name}>
                  <th scope="row">{effectName(effect.name, known)}</th>
                  <td class="number">{percent(effect.before)}</td>
                  <td class="number">
                    {percent(Math.max(0, effect.least))} to {percent(Math.min(1, effect.most))}
                  </td>
                  <td class="number">
                    {percent(effect.now)}
                    {effect.outside && <span class="down"> outside</span>}
                  </td>
                  <td class="interval-cell">
                    <Interval effect={effect} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <p class="note">
        {before && `Published under bundle ${short(before)}. `}Served now: {short(known.info.bundleVersion)}.
      </p>
    </>
  )
}

function sentence({ histories }: ScenarioReplay, how: Standing): string {
  switch (how) {
    case "held":
      return "It does what it did when it was published, within what chance explains."
    case "moved":
      return "It no longer does what it did when it was published. Look at the preview, and publish it again as it should be."
    case "broken":
      return "It cannot be applied to this bundle any more. Requests that name it are refused."
    case "same":
      return `It was published under the bundle that is served. What it does was measured on ${plural(histories, "person", "people")}, to compare it with later bundles.`
    default:
      return "What it does was not measured when it was published. Publish it again, and it can be compared with later bundles."
  }
}

/** "share of genres:Horror" for people. */
export function effectName(name: string, known: Known): string {
  if (name === "overlap") return "Of the list that is not steered, stays"
  const items = /^share of controls\[(\d+)\]\.items$/.exec(name)
  if (items) return `Of the list, items of control ${Number(items[1]) + 1}`
  const of = name.replace(/^share of /, "")
  return of === name ? name : `Of the list, ${conceptName(known, of)}`
}

function Interval({ effect: { before, least, most, now, outside } }: { effect: ReplayedEffect }) {
  const at = (share: number) => 100 * Math.max(0, Math.min(1, share))
  return (
    <svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
      <rect class="interval-track" x="0" y="5" width="100" height="2" />
      <rect class="interval-band" x={at(least)} y="2" width={Math.max(1, at(most) - at(least))} height="8" />
      <rect class="interval-before" x={at(before) - 0.5} y="0" width="1" height="12" />
      <rect
        class={outside ? "interval-now interval-outside" : "interval-now"}
        x={at(now) - 1}
        y="1"
        width="2"
        height="10"
      />
    </svg>
  )
}
