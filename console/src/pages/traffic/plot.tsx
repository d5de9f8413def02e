// A plot over time. uPlot draws on a canvas: colours are read from the tokens of the page, again when the theme changes.

import { useEffect, useRef } from "preact/hooks"
import type UPlot from "uplot"
import "uplot/dist/uPlot.min.css"
import type { Rates } from "./rates"

export interface Line {
  key: Exclude<keyof Rates, "time">
  label: string
  /** A colour token: "--accent". */
  colour: string
  dashed?: boolean
}

export interface PlotProps {
  title: string
  lines: Line[]
  rates: Rates[]
  text: (value: number) => string
  /** Of the scale, whose values are round. */
  tick: (value: number) => string
  /** Upper end of the scale; otherwise that of the data. */
  most?: number
}

const AXIS_WIDTH = 58
const AXIS_HEIGHT = 28
const SPAN_SECONDS = 600

const spanTo = (time: number): [number, number] => [time - SPAN_SECONDS, time]

/** A token as a canvas takes it. */
function colourOf(host: HTMLElement, token: string): string {
  const probe = document.createElement("span")
  probe.style.color = `var(${token})`
  host.append(probe)
  const colour = getComputedStyle(probe).color
  probe.remove()
  return colour
}

function onTheme(changed: () => void): () => void {
  const scheme = matchMedia("(prefers-color-scheme: dark)")
  const observer = new MutationObserver(changed)
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] })
  scheme.addEventListener("change", changed)
  return () => {
    observer.disconnect()
    scheme.removeEventListener("change", changed)
  }
}

const data = (rates: Rates[], lines: Line[]): UPlot.AlignedData => [
  rates.map(({ time }) => time),
  ...lines.map(({ key }) => rates.map((each) => each[key])),
]

function options(host: HTMLElement, { lines, tick, most }: PlotProps): UPlot.Options {
  const [muted, grid] = [colourOf(host, "--muted"), colourOf(host, "--line")]
  const axis: UPlot.Axis = { stroke: muted, grid: { stroke: grid, width: 1 }, ticks: { show: false } }
  return {
    width: host.clientWidth,
    height: host.clientHeight,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { range: (_, __, latest) => spanTo(latest ?? Date.now() / 1000) },
      y: { range: (_, __, largest) => [0, most ?? Math.max(1, 1.1 * (largest || 0))] },
    },
    axes: [
      { ...axis, size: AXIS_HEIGHT, values: (_, times) => times.map((time) => clock(time)) },
      { ...axis, size: AXIS_WIDTH, values: (_, values) => values.map(tick) },
    ],
    series: [
      {},
      ...lines.map(({ label, colour, dashed }) => ({
        label,
        stroke: colourOf(host, colour),
        width: 2,
        points: { show: false },
        ...(dashed && { dash: [6, 4] }),
      })),
    ],
  }
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" })
const clock = (time: number): string => CLOCK.format(new Date(1000 * time))

export function Plot(props: PlotProps) {
  const { title, lines, rates } = props
  const host = useRef<HTMLDivElement>(null)
  const plot = useRef<UPlot>(undefined)
  const latest = useRef(props)
  latest.current = props
  useEffect(() => {
    const element = host.current!
    let gone = false
    const draw = async () => {
      const { default: Drawn } = await import("uplot")
      if (gone) return
      plot.current?.destroy()
      plot.current = new Drawn(options(element, latest.current), data(latest.current.rates, lines), element)
    }
    void draw()
    const unwatch = onTheme(() => void draw())
    const resized = new ResizeObserver(() =>
      plot.current?.setSize({ width: element.clientWidth, height: element.clientHeight }),
    )
    resized.observe(element)
    return () => {
      gone = true
      unwatch()
      resized.disconnect()
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [])
  useEffect(() => plot.current?.setData(data(rates, lines)), [rates])
  return (
    <section class="card plot" aria-label={title}>
      <div class="card-head">
        <h2>{title}</h2>
        <Legend {...props} />
      </div>
      <div class="plot-host" ref={host} aria-hidden="true" />
    </section>
  )
}

function Legend({ lines, rates, text }: PlotProps) {
  const now = rates.at(-1)
  return (
    <ul class="plot-legend">
      {lines.map(({ key, label, colour, dashed }) => {
        const value = now?.[key]
        return (
          <li key={key}>
            <svg viewBox="0 0 18 4" aria-hidden="true">
              <line
                x1="0"
                x2="18"
                y1="2"
                y2="2"
                style={{ stroke: `var(${colour})` }}
                stroke-dasharray={dashed ? "5 3" : undefined}
              />
            </svg>
            {label} <strong>{value === undefined || value === null ? "–" : text(value)}</strong>
          </li>
        )
      })}
    </ul>
  )
}
