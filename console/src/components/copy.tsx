// A button that copies a text, and says that it did.

import { useState } from "preact/hooks"

export function Copy({ text, label }: { text: () => string; label: string }) {
  const [said, setSaid] = useState("")
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text())
      setSaid("copied")
    } catch {
      setSaid("the browser does not allow it")
    }
    setTimeout(() => setSaid(""), 1500)
  }
  return (
    <button type="button" onClick={copy}>
      {label}
      <span role="status">{said && ` (${said})`}</span>
    </button>
  )
}
