// Plots of the evaluation, in SVG; each has its numbers as text beside it.

import { percent } from "../../format"
import { MEASURES, splitOf, SYSTEMS, type Figures } from "./figures"

/** One group of bars for each measure, one bar for each system. */
export function AccuracyPlot({ figures }: { figures: Figures }) {
  const split = splitOf(figures)
  if (!split) return <p class="muted">The bundle has no figures of its accuracy.</p>
  return (
    <div class="accuracy">
      {MEASURES.map(({ name, label, meaning }) => {
        const values = SYSTEMS.map((system) => figures[`${split}${system.name}.${name}`])
        const most = Math.max(...values.map((value) => value ?? 0), 1e-9)
        return (
          <section key={name} aria-label={label}>
            <h3>{label}</h3>
            <p class="note">{meaning}</p>
            <dl class="accuracy-bars">
              {SYSTEMS.map((system, index) => {
                const value = values[index]
                if (value === undefined) return null
                return (
                  <div key={system.name}>
                    <dt>{system.label}</dt>
                    <dd>
                      <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
                        <rect class={index ? "bar-other" : "bar-own"} width={(100 * value) / most} height="10" />
                      </svg>
                      <span>{value.toFixed(3)}</span>
                    </dd>
                  </div>
                )
              })}
            </dl>
          </section>
        )
      })}
    </div>
  )
}

export interface Point {
  name: string
  label: string
  /** Share of the list that is gained. */
  raised: number
  kept: number
  beyond: boolean
}

const WIDTH = 640
const HEIGHT = 320
const LEFT = 52
const BOTTOM = 42
const TOP = 12
const RIGHT = 16
const MOST_LABELS = 12

/** Round steps, at most six. */
function ticks(least: number, most: number): number[] {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5].find((each) => (most - least) / each <= 6) ?? 1
  const found: number[] = []
  for (let at = Math.ceil(least / step - 1e-9) * step; at <= most + 1e-9; at += step) found.push(at)
  return found
}

interface Box {
  left: number
  right: number
  y: number
}

interface Text extends Box {
  point: Point
  isLeft: boolean
}

const LETTER = 6.4
const GAP = 9
const LINE = 13

/** Texts for the points that stand out most, each on a side where it hides neither a point nor another text. */
function texts(points: Point[], x: (point: Point) => number, y: (point: Point) => number): Text[] {
  const weight = ({ raised, kept }: Point) => raised + 2 * Math.abs(1 - kept)
  const dots = points.map((point): Box => ({ left: x(point) - 6, right: x(point) + 6, y: y(point) }))
  const found: Text[] = []
  const isFree = (box: Box, own: number) =>
    box.left > LEFT &&
    box.right < WIDTH &&
    [...dots.filter((_, index) => index !== own), ...found].every(
      (other) => Math.abs(other.y - box.y) > LINE || other.right < box.left || other.left > box.right,
    )
  const ranked = points
    .map((point, index) => ({ point, index }))
    .sort((one, two) => weight(two.point) - weight(one.point))
  for (const { point, index } of ranked) {
    if (found.length >= MOST_LABELS) break
    const width = GAP + LETTER * point.label.length
    const right = { left: x(point), right: x(point) + width, y: y(point) }
    const left = { left: x(point) - width, right: x(point), y: y(point) }
    if (isFree(right, index)) found.push({ point, isLeft: false, ...right })
    else if (isFree(left, index)) found.push({ point, isLeft: true, ...left })
  }
  return found
}

export function EffectPlot({ points }: { points: Point[] }) {
  const mostRaised = Math.max(0.1, ...points.map(({ raised }) => raised)) * 1.05
  const leastRaised = Math.min(0, ...points.map(({ raised }) => raised))
  const leastKept = Math.min(0.9, ...points.map(({ kept }) => kept)) - 0.03
  const mostKept = Math.max(1, ...points.map(({ kept }) => kept)) + 0.03
  const x = ({ raised }: { raised: number }) =>
    LEFT + ((raised - leastRaised) / (mostRaised - leastRaised)) * (WIDTH - LEFT - RIGHT)
  const y = ({ kept }: { kept: number }) =>
    HEIGHT - BOTTOM - ((kept - leastKept) / (mostKept - leastKept)) * (HEIGHT - BOTTOM - TOP)
  const labels = texts(points, x, y)
  return (
    <svg
      class="effects"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      role="img"
      aria-label="Concepts by what they raise and what they cost; the table below has the same numbers"
    >
      {ticks(leastRaised, mostRaised).map((raised) => (
        <g key={raised}>
          <line class="grid" x1={x({ raised })} x2={x({ raised })} y1={TOP} y2={HEIGHT - BOTTOM} />
          <text x={x({ raised })} y={HEIGHT - BOTTOM + 16} text-anchor="middle">
            {percent(raised)}
          </text>
        </g>
      ))}
      {ticks(leastKept, mostKept).map((kept) => (
        <g key={kept}>
          <line
            class={Math.abs(kept - 1) < 1e-6 ? "grid grid-strong" : "grid"}
            x1={LEFT}
            x2={WIDTH - RIGHT}
            y1={y({ kept })}
            y2={y({ kept })}
          />
          <text x={LEFT - 8} y={y({ kept }) + 4} text-anchor="end">
            {percent(kept)}
          </text>
        </g>
      ))}
      <text class="axis" x={(LEFT + WIDTH) / 2} y={HEIGHT - 6} text-anchor="middle">
        more of it in the list, at strength 1
      </text>
      <text class="axis" transform={`translate(12 ${(HEIGHT - BOTTOM) / 2}) rotate(-90)`} text-anchor="middle">
        accuracy kept
      </text>
      {points.map((point) => (
        <g key={point.name} class={point.beyond ? "point point-beyond" : "point"}>
          <circle cx={x(point)} cy={y(point)} r="5" />
          <title>{`${point.label}: ${percent(point.raised)} more, ${percent(point.kept)} kept`}</title>
        </g>
      ))}
      {labels.map(({ point, isLeft }) => (
        <text
          key={point.name}
          class="label"
          x={x(point) + (isLeft ? -GAP : GAP)}
          y={y(point) + 4}
          text-anchor={isLeft ? "end" : "start"}
        >
          {point.label}
        </text>
      ))}
    </svg>
  )
}
