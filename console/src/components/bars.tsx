// Signed amounts as bars around a middle line, each with its number in words: what a score is made of, what a list is made of.

import type { ComponentChildren } from "preact"
import { signed } from "../format"

export interface Bar {
  key: string
  label: ComponentChildren
  amount: number
  /** "control" stands out. */
  kind?: "control" | "rest"
  /** The amount in words; by default with two digits. */
  text?: string
}

export function Bars({ bars, label, onlyUp }: { bars: Bar[]; label: string; onlyUp?: boolean }) {
  const most = Math.max(...bars.map(({ amount }) => Math.abs(amount)), 1e-9)
  return (
    <ul class={onlyUp ? "bars bars-up" : "bars"} aria-label={label}>
      {bars.map(({ key, label, amount, kind, text }) => (
        <li key={key} class={kind ? `bar bar-${kind}` : "bar"}>
          <span class="bar-label">{label}</span>
          <span class="bar-track" aria-hidden="true">
            <span
              class={amount < 0 ? "bar-fill bar-down" : "bar-fill"}
              style={{ width: `${((onlyUp ? 100 : 50) * Math.abs(amount)) / most}%` }}
            />
          </span>
          <span class="bar-amount">{text ?? signed(amount)}</span>
        </li>
      ))}
    </ul>
  )
}
