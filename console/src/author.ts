// Who changes things: a name for the audit trail, remembered in this browser.

import { useState } from "preact/hooks"

const KEY = "steersman-author"
/** In bytes, as the server counts. */
export const MOST_AUTHOR_BYTES = 128

export const bytes = (text: string): number => new TextEncoder().encode(text).length

export function useAuthor(): [string, (author: string) => void] {
  const [author, setAuthor] = useState(() => localStorage.getItem(KEY) ?? "")
  return [
    author,
    (name) => {
      localStorage.setItem(KEY, name)
      setAuthor(name)
    },
  ]
}
