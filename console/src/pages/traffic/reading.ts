// Reads the server's counters every two seconds, as long as the page is seen.

import { useEffect, useState } from "preact/hooks"
import { root } from "../../root"
import { demand, headers, token } from "../../token"
import { after, EMPTY, type Counters, type Past } from "./rates"

const EVERY_MS = 2000

/** "off": this server gives no counters; "away": it does not answer; "denied": the caller may not see them. */
export type Reach = "first" | "here" | "off" | "away" | "failing" | "denied"

// Kept when the page is left, so that what was seen is there again.
let kept: Past = EMPTY

async function read(signal: AbortSignal): Promise<Counters | Exclude<Reach, "first" | "here">> {
  const sent = token()
  try {
    const answer = await fetch(new URL("metrics.json", root), { cache: "no-store", signal, headers: headers() })
    if (answer.ok) return (await answer.json()) as Counters
    if (answer.status === 404) return "off"
    if (answer.status === 401) demand(sent, ((await answer.json()) as { message: string }).message)
    if (answer.status === 401 || answer.status === 403) return "denied"
    return answer.status === 503 ? "failing" : "away"
  } catch {
    return "away"
  }
}

export function useTraffic(): { past: Past; reach: Reach; hidden: boolean } {
  const [state, setState] = useState<{ past: Past; reach: Reach }>({ past: kept, reach: "first" })
  const [hidden, setHidden] = useState(document.hidden)
  useEffect(() => {
    const changed = () => setHidden(document.hidden)
    document.addEventListener("visibilitychange", changed)
    return () => document.removeEventListener("visibilitychange", changed)
  }, [])
  useEffect(() => {
    if (hidden) return
    const abort = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    const once = async () => {
      const answer = await read(abort.signal)
      if (abort.signal.aborted) return
      if (typeof answer === "object") kept = after(kept, answer)
      setState({ past: kept, reach: typeof answer === "object" ? "here" : answer })
      timer = setTimeout(() => void once(), EVERY_MS)
    }
    void once()
    return () => {
      abort.abort()
      clearTimeout(timer)
    }
  }, [hidden])
  return { ...state, hidden }
}
