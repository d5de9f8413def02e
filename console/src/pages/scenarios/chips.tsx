// Names with a button each that takes them off.

export interface ChipsProps {
  label: string
  chips: { key: string; label: string }[]
  remove: (index: number) => void
  /** Gives each a place that can be changed. */
  move?: (from: number, to: number) => void
}

export function Chips({ label, chips, remove, move }: ChipsProps) {
  if (!chips.length) return null
  return (
    <ul class={move ? "chips chips-ordered" : "chips"} aria-label={label}>
      {chips.map(({ key, label: name }, index) => (
        <li key={key} class="chip-item">
          <span>{name}</span>
          {move && (
            <>
              <button
                type="button"
                class="icon"
                aria-label={`${name} further up`}
                disabled={!index}
                onClick={() => move(index, index - 1)}
              >
                ↑
              </button>
              <button
                type="button"
                class="icon"
                aria-label={`${name} further down`}
                disabled={index === chips.length - 1}
                onClick={() => move(index, index + 1)}
              >
                ↓
              </button>
            </>
          )}
          <button type="button" class="icon" aria-label={`Remove ${name}`} onClick={() => remove(index)}>
            ×
          </button>
        </li>
      ))}
    </ul>
  )
}

/** A share in percent. */
export function PercentField({
  label,
  value,
  change,
  hidden,
}: {
  label: string
  value: number
  change: (share: number) => void
  hidden?: boolean
}) {
  return (
    <label class="percent-field">
      <span class={hidden ? "visually-hidden" : undefined}>{label}</span>
      <input
        type="number"
        min={0}
        max={100}
        step={1}
        value={Math.round(100 * value)}
        onChange={({ currentTarget: { value: text } }) => {
          const number = Number(text)
          if (text !== "" && Number.isFinite(number)) change(Math.max(0, Math.min(100, number)) / 100)
        }}
      />
      <span aria-hidden="true">%</span>
    </label>
  )
}
