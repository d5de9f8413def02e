// A list of items whose rows move to their new places (FLIP), unless the user prefers less motion.

import { useLayoutEffect, useRef } from "preact/hooks"
import type { ComponentChildren } from "preact"

export interface Row {
  id: string
  title: string
  note?: ComponentChildren
  /** What became of it beside another list. */
  mark?: "entered" | "left" | "up" | "down"
}

const MARKS = { entered: "new", left: "left", up: "up", down: "down" } as const
const MOVE_MS = 220

export interface ItemListProps {
  rows: Row[]
  label: string
  /** Of the item that is explained. */
  chosen?: string
  choose?: (id: string) => void
}

export function ItemList({ rows, label, chosen, choose }: ItemListProps) {
  const list = useRef<HTMLOListElement>(null)
  const places = useRef(new Map<string, number>())
  useLayoutEffect(() => {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches
    const now = new Map<string, number>()
    for (const element of list.current?.children ?? []) {
      const row = element as HTMLElement
      const id = row.dataset.id ?? ""
      now.set(id, row.offsetTop)
      const before = places.current.get(id)
      if (still || before === row.offsetTop) continue
      const from =
        before === undefined ? { opacity: 0 } : { transform: `translateY(${before - row.offsetTop}px)`, opacity: 1 }
      row.animate([from, { transform: "none", opacity: 1 }], { duration: MOVE_MS, easing: "ease-out" })
    }
    places.current = now
  }, [rows])
  return (
    <ol class="items" ref={list} aria-label={label}>
      {rows.map((row, index) => (
        <li key={row.id} data-id={row.id} class={row.mark ? `item item-${row.mark}` : "item"}>
          <Line row={row} place={index + 1} pressed={row.id === chosen} choose={choose} />
        </li>
      ))}
    </ol>
  )
}

function Line({
  row,
  place,
  pressed,
  choose,
}: {
  row: Row
  place: number
  pressed: boolean
  choose: ((id: string) => void) | undefined
}) {
  const content = (
    <>
      <span class="item-place">{place}</span>
      <span class="item-title">
        {row.title}
        {row.note && <small>{row.note}</small>}
      </span>
      {row.mark && <span class={`mark mark-${row.mark}`}>{MARKS[row.mark]}</span>}
    </>
  )
  if (!choose) return <div class="item-line">{content}</div>
  return (
    <button type="button" class="item-line" aria-pressed={pressed} onClick={() => choose(row.id)}>
      {content}
    </button>
  )
}

/** How a list differs from another one: marks for its rows, and those that left. */
export function compared(before: { itemId: string; title: string }[], after: { itemId: string; title: string }[]) {
  const place = new Map(before.map(({ itemId }, index) => [itemId, index]))
  const kept = new Set(after.map(({ itemId }) => itemId))
  const rows = after.map(({ itemId, title }, index): Row => {
    const was = place.get(itemId)
    if (was === undefined) return { id: itemId, title, mark: "entered" }
    if (was === index) return { id: itemId, title }
    return { id: itemId, title, mark: index < was ? "up" : "down" }
  })
  const left = before.filter(({ itemId }) => !kept.has(itemId))
  return { rows, left, overlap: before.length ? 1 - left.length / before.length : 1 }
}
