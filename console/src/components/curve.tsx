// What a control does at each strength, and what it costs: the share of the list that has it, and the accuracy that the list keeps.

import { useId } from "preact/hooks"
import type { Effect, EffectPoint } from "../gen/steersman/v1/feature_service_pb"
import { percent, signed } from "../format"
import { share } from "../names"
import "./curve.css"

type Point = Pick<EffectPoint, "strength" | "share" | "ndcgKept">

/** The measured curve, or what is known without one: the effect at strength 1. */
export function pointsOf(curve: EffectPoint[], effect: Effect | undefined): Point[] {
  if (curve.length) return [...curve].sort((one, other) => one.strength - other.strength)
  if (!effect) return []
  return [
    { strength: 0, share: effect.shareBefore, ndcgKept: 1 },
    { strength: 1, share: effect.shareAfter, ndcgKept: effect.ndcgKept },
  ]
}

export interface CurveProps {
  points: Point[]
  /** What is raised, for people. */
  name: string
  /** Strengths at which the natural range ends, both positive. */
  natural?: { up: number; down: number }
}

const WIDTH = 440
const HEIGHT = 230
const BOX = { left: 44, right: 22, top: 12, bottom: 34 }

/** Pixels of a strength and of a share. */
function scales(points: Point[], width: number, height: number, box: typeof BOX) {
  const top = Math.ceil(10 * Math.max(1, ...points.flatMap((point) => [point.share, point.ndcgKept]))) / 10
  const least = Math.min(...points.map(({ strength }) => strength), 0)
  const most = Math.max(...points.map(({ strength }) => strength), 0)
  const x = (strength: number) => box.left + ((strength - least) / (most - least || 1)) * (width - box.left - box.right)
  const y = (value: number) => height - box.bottom - (value / top) * (height - box.top - box.bottom)
  return { x, y, least, most }
}

/** Halves, ends included. */
function ticks(least: number, most: number): number[] {
  const halves = Array.from({ length: 2 * Math.floor(2 * Math.max(most, -least)) + 1 }, (_, at) => at / 2)
  const both = [...halves.slice(1).map((half) => -half), ...halves]
  return both.filter((strength) => strength >= least && strength <= most)
}

const path = (
  points: Point[],
  x: (strength: number) => number,
  y: (value: number) => number,
  of: "share" | "ndcgKept",
) => points.map((point, at) => `${at ? "L" : "M"}${x(point.strength).toFixed(1)} ${y(point[of]).toFixed(1)}`).join("")

export function Curve({ points, name, natural }: CurveProps) {
  const pattern = useId()
  const { x, y, least, most } = scales(points, WIDTH, HEIGHT, BOX)
  const floor = HEIGHT - BOX.bottom
  const first = points[0]
  const last = points.at(-1)
  if (!first || !last) return null
  const up = natural && natural.up < most ? x(natural.up) : undefined
  const down = natural && -natural.down > least ? x(-natural.down) : undefined
  const say = ({ strength, share: part, ndcgKept }: Point) =>
    `at ${signed(strength)}, ${share(part)} of the list and ${percent(ndcgKept)} of the accuracy`
  return (
    <figure class="curve">
      <figcaption class="curve-legend">
        <span class="curve-key curve-key-share">Share of the list: {name}</span>
        <span class="curve-key curve-key-kept">Accuracy kept</span>
        {(up ?? down) !== undefined && <span class="curve-key curve-key-beyond">Beyond the natural range</span>}
      </figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`Effect of ${name} by strength: ${say(first)}; ${say(last)}. All figures are in the table below.`}
      >
        <pattern id={pattern} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect class="curve-hatch" width="2" height="6" />
        </pattern>
        {down !== undefined && (
          <rect x={BOX.left} y={BOX.top} width={down - BOX.left} height={floor - BOX.top} fill={`url(#${pattern})`} />
        )}
        {up !== undefined && (
          <rect x={up} y={BOX.top} width={WIDTH - BOX.right - up} height={floor - BOX.top} fill={`url(#${pattern})`} />
        )}
        {[0, 0.25, 0.5, 0.75, 1].map((value) => (
          <g key={value}>
            <line class="curve-grid" x1={BOX.left} x2={WIDTH - BOX.right} y1={y(value)} y2={y(value)} />
            <text class="curve-tick" x={BOX.left - 8} y={y(value) + 4} text-anchor="end">
              {percent(value)}
            </text>
          </g>
        ))}
        {ticks(least, most).map((strength) => (
          <text key={strength} class="curve-tick" x={x(strength)} y={floor + 20} text-anchor="middle">
            {signed(strength, 1)}
          </text>
        ))}
        <line class="curve-zero" x1={x(0)} x2={x(0)} y1={BOX.top} y2={floor} />
        <path class="curve-kept" d={path(points, x, y, "ndcgKept")} />
        <path class="curve-share" d={path(points, x, y, "share")} />
        {points.map((point) => (
          <g key={point.strength}>
            <circle class="curve-dot-kept" cx={x(point.strength)} cy={y(point.ndcgKept)} r="3" />
            <circle class="curve-dot-share" cx={x(point.strength)} cy={y(point.share)} r="3.5" />
            <rect class="curve-touch" x={x(point.strength) - 12} y={BOX.top} width="24" height={floor - BOX.top}>
              <title>{say(point)}</title>
            </rect>
          </g>
        ))}
      </svg>
      <details>
        <summary>As a table</summary>
        <div class="table-scroll">
          <table>
            <thead>
              <tr>
                <th class="number">Strength</th>
                <th class="number">Share of the list</th>
                <th class="number">Accuracy kept</th>
              </tr>
            </thead>
            <tbody>
              {points.map((point) => (
                <tr key={point.strength}>
                  <td class="number">{signed(point.strength)}</td>
                  <td class="number">{share(point.share)}</td>
                  <td class="number">{percent(point.ndcgKept)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </figure>
  )
}

const SMALL = { left: 2, right: 2, top: 3, bottom: 3 }

/** The same, small, beside figures that say it in words. */
export function SmallCurve({ points }: { points: Point[] }) {
  if (!points.length) return null
  const { x, y } = scales(points, 92, 34, SMALL)
  return (
    <svg class="curve-small" viewBox="0 0 92 34" aria-hidden="true">
      <line class="curve-zero" x1={x(0)} x2={x(0)} y1={SMALL.top} y2={34 - SMALL.bottom} />
      <path class="curve-kept" d={path(points, x, y, "ndcgKept")} />
      <path class="curve-share" d={path(points, x, y, "share")} />
    </svg>
  )
}
