// What the server is doing now, from its own counters: no Prometheus is needed.

import type { PageProps } from "../app"
import { Empty, Loading } from "../components/states"
import { count, percent } from "../format"
import { Plot, type Line } from "./traffic/plot"
import type { Past, Rates } from "./traffic/rates"
import { useTraffic, type Reach } from "./traffic/reading"
import "./traffic.css"

const number = (value: number): string => (value >= 100 ? count(Math.round(value)) : value.toFixed(1))
const round = (value: number): string => count(Number(value.toFixed(3)))
const milliseconds = (value: number): string => `${value >= 100 ? count(Math.round(value)) : value.toFixed(1)} ms`

const CALLS: Line[] = [
  { key: "calls", label: "All calls", colour: "--accent" },
  { key: "recommendations", label: "Lists", colour: "--up" },
  { key: "failed", label: "Failed", colour: "--danger", dashed: true },
]
const LATENCY: Line[] = [
  { key: "p50", label: "Half within", colour: "--up" },
  { key: "p95", label: "95% within", colour: "--accent" },
  { key: "p99", label: "99% within", colour: "--down", dashed: true },
]
const STEERING: Line[] = [
  { key: "steered", label: "Lists that are steered", colour: "--accent" },
  { key: "change", label: "Part of a steered list that is changed", colour: "--down", dashed: true },
]

export function Traffic(_: PageProps) {
  const { past, reach, hidden } = useTraffic()
  if (reach === "first" && !past.rates.length) return <Loading lines={8} />
  if (reach === "off") return <Off />
  if (reach === "denied")
    return (
      <div class="card">
        <Empty title="You may not see the traffic">That takes a token with the role recommend.</Empty>
      </div>
    )
  return (
    <>
      <Said reach={reach} past={past} hidden={hidden} />
      <div class="pair">
        <Plot title="Calls a second" lines={CALLS} rates={past.rates} text={number} tick={round} />
        <Plot
          title="Time to answer a list"
          lines={LATENCY}
          rates={past.rates}
          text={milliseconds}
          tick={(value) => `${round(value)} ms`}
        />
        <Plot title="Steering" lines={STEERING} rates={past.rates} text={percent} tick={percent} most={1} />
        <Figures past={past} />
      </div>
      <p class="note">
        The last ten minutes, read every two seconds; each point is over the ten seconds before. Seen from this page
        alone: after it is loaded again, it begins anew. For longer, let Prometheus read the metrics port.
      </p>
    </>
  )
}

function Off() {
  return (
    <div class="card">
      <Empty title="This server does not show its traffic">
        Start it with <code>--metrics on</code>, as it is by default; a gateway that runs alone needs{" "}
        <code>--metrics URL</code>, the address of the server's metrics. An older server cannot.
      </Empty>
    </div>
  )
}

function Said({ reach, past, hidden }: { reach: Reach; past: Past; hidden: boolean }) {
  const text = sentence(reach, past, hidden)
  return (
    <p class={reach === "here" ? "muted" : "warning"} role="status">
      {text}
    </p>
  )
}

function sentence(reach: Reach, { rates, restarts }: Past, hidden: boolean): string {
  if (reach === "away")
    return "The server does not answer. What is below is from before; this page goes on when it is back."
  if (reach === "failing") return "The server answers, but its metrics do not. This page asks again every two seconds."
  if (hidden) return "Paused."
  if (!rates.length) return "Counting. The first figures come in two seconds."
  if (restarts)
    return `The server, or a part of it, has started anew ${restarts === 1 ? "once" : `${restarts} times`} since this page was opened: lines are broken there.`
  return rates.at(-1)?.calls === 0 ? "No calls just now." : "What the server does now, from its own counters."
}

const ROWS: { key: Exclude<keyof Rates, "time">; label: string; text: (value: number) => string }[] = [
  { key: "calls", label: "Calls a second, of all kinds", text: number },
  { key: "recommendations", label: "Lists a second", text: number },
  { key: "failed", label: "Calls that the server failed, a second", text: number },
  { key: "p50", label: "Half of all lists are answered within", text: milliseconds },
  { key: "p95", label: "95% of lists within", text: milliseconds },
  { key: "p99", label: "99% of lists within", text: milliseconds },
  { key: "queue", label: "95% wait in the queue for at most", text: milliseconds },
  { key: "steered", label: "Lists that are steered", text: percent },
  { key: "change", label: "Part of a steered list that is changed", text: percent },
  { key: "cacheHits", label: "Sessions read from memory", text: percent },
]

function Figures({ past: { rates, readings } }: { past: Past }) {
  const now = rates.at(-1)
  const reading = readings.at(-1)
  const since = reading && reading.recommendations.plain + reading.recommendations.steered
  return (
    <section class="card" aria-label="Latest figures">
      <h2>Latest figures</h2>
      <table class="latest">
        <caption class="visually-hidden">Figures of the last ten seconds</caption>
        <tbody>
          {ROWS.map(({ key, label, text }) => {
            const value = now?.[key]
            return (
              <tr key={key}>
                <th scope="row">{label}</th>
                <td class="number">{value === undefined || value === null ? "–" : text(value)}</td>
              </tr>
            )
          })}
          <tr>
            <th scope="row">
              Lists since the server started{reading?.uptime_seconds ? `, ${ago(reading.uptime_seconds)} ago` : ""}
            </th>
            <td class="number">{since === undefined ? "–" : count(since)}</td>
          </tr>
        </tbody>
      </table>
    </section>
  )
}

function ago(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} minutes`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} hours` : `${Math.round(seconds / 86_400)} days`
}
