// A strength: a native range, so that arrows, Page Up and Down, Home and End work, with its number beside it.

import { useId } from "preact/hooks"
import type { ComponentChildren } from "preact"
import { signed } from "../format"

export interface SliderProps {
  label: string
  /** Under the label: where it comes from, a warning. */
  note?: ComponentChildren
  value: number
  /** Largest magnitude. */
  reach: number
  /** Called at every step of a drag. */
  change: (value: number) => void
  remove?: () => void
  /** A second line of content, such as a receipt. */
  children?: ComponentChildren
}

const STEP = 0.05

export function Slider({ label, note, value, reach, change, remove, children }: SliderProps) {
  const id = useId()
  const set = (text: string) => {
    const number = Number(text)
    if (text !== "" && Number.isFinite(number)) change(Math.max(-reach, Math.min(reach, number)))
  }
  return (
    <div class="slider">
      <div class="slider-head">
        <label for={id}>{label}</label>
        <input
          class="slider-number"
          type="number"
          aria-label={`Strength of ${label}`}
          min={-reach}
          max={reach}
          step={STEP}
          value={value.toFixed(2)}
          onChange={(event) => set(event.currentTarget.value)}
        />
        {remove && (
          <button type="button" class="icon" aria-label={`Remove ${label}`} onClick={remove}>
            ×
          </button>
        )}
      </div>
      <input
        id={id}
        type="range"
        min={-reach}
        max={reach}
        step={STEP}
        value={value}
        aria-valuetext={signed(value)}
        onInput={(event) => set(event.currentTarget.value)}
        onDblClick={() => change(0)}
      />
      {note && <p class="note">{note}</p>}
      {children}
    </div>
  )
}
