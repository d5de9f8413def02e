// A search field with a list of what was found: a combobox (WAI-ARIA), by keyboard and by pointer.

import { useEffect, useId, useState } from "preact/hooks"
import type { ComponentChildren } from "preact"
import { useCall, useSettled } from "../calls"

export interface Found {
  key: string
  label: string
  note?: ComponentChildren
  /** A heading above it, where the one before has another. */
  group?: string
}

export interface SearchProps<T extends Found> {
  label: string
  placeholder?: string
  /** Best first. Called with the text of the field, also the empty one. */
  find: (text: string, signal: AbortSignal) => Promise<T[]>
  choose: (found: T) => void
}

export function Search<T extends Found>({ label, placeholder, find, choose }: SearchProps<T>) {
  const id = useId()
  const [text, setText] = useState("")
  const [open, setOpen] = useState(false)
  const [active, setActive] = useState(0)
  const settled = useSettled(text.trim(), 120)
  const { value, problem, loading } = useCall(
    async (signal) => ({ of: settled, found: open ? await find(settled, signal) : [] }),
    [settled, open],
  )
  const found = value?.found ?? []
  // Who types and presses Enter at once means what is found for the text, not what was found for the one before.
  const isOfText = value?.of === text.trim() && !loading
  const [entered, setEntered] = useState(false)
  useEffect(() => {
    if (!entered || !isOfText) return
    setEntered(false)
    take(found[0])
  }, [entered, isOfText])
  useEffect(() => setActive(0), [settled])
  useEffect(() => document.getElementById(`${id}-${active}`)?.scrollIntoView({ block: "nearest" }), [active])
  const take = (one: T | undefined) => {
    if (!one) return
    choose(one)
    setText("")
    setOpen(false)
  }
  const keys = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault()
      setOpen(true)
      const step = event.key === "ArrowDown" ? 1 : -1
      if (found.length) setActive((active + step + found.length) % found.length)
    } else if (event.key === "Enter" && open) {
      event.preventDefault()
      if (isOfText) take(found[active])
      else setEntered(true)
    } else if (event.key === "Escape") {
      setOpen(false)
    }
  }
  return (
    <div class="search">
      <label class="visually-hidden" for={id}>
        {label}
      </label>
      <input
        id={id}
        type="text"
        role="combobox"
        autocomplete="off"
        spellcheck={false}
        placeholder={placeholder ?? label}
        aria-expanded={open}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={open && found[active] ? `${id}-${active}` : undefined}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value)
          setEntered(false)
          setOpen(true)
        }}
        onFocus={() => setOpen(true)}
        onBlur={() => setOpen(false)}
        onKeyDown={keys}
      />
      <ul id={`${id}-list`} role="listbox" aria-label={label} hidden={!open}>
        {found.map((one, index) => [
          one.group && one.group !== found[index - 1]?.group && (
            <li key={`group:${one.group}`} role="presentation" class="search-group">
              {one.group}
            </li>
          ),
          <li
            key={one.key}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === active}
            // Before the field loses the focus.
            onPointerDown={(event) => {
              event.preventDefault()
              take(one)
            }}
            onPointerMove={() => setActive(index)}
          >
            <span>{one.label}</span>
            {one.note && <small>{one.note}</small>}
          </li>,
        ])}
        {!found.length && (
          <li class="search-nothing" role="option" aria-selected={false} aria-disabled="true">
            {problem ? problem.detail : loading ? "Searching" : "Nothing found"}
          </li>
        )}
      </ul>
    </div>
  )
}
