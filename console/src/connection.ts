// Whether the server answers. After a call that could not reach it, it is asked until it is back; what is on the page is then loaded again.

import { useLayoutEffect, useState } from "preact/hooks"
import type { Problem } from "./api"
import { root } from "./root"
import { Code } from "@connectrpc/connect"

const RETRY_MS = 1000

type Listener = () => void

export interface Connection {
  away: boolean
  /** Grows each time that the server came back. */
  epoch: number
}

let connection: Connection = { away: false, epoch: 0 }
const listeners = new Set<Listener>()

function become(next: Connection): void {
  connection = next
  listeners.forEach((listener) => listener())
}

async function isReady(): Promise<boolean> {
  try {
    return (await fetch(new URL("healthz", root), { cache: "no-store" })).ok
  } catch {
    return false
  }
}

function ask(): void {
  setTimeout(async () => {
    if (await isReady()) become({ away: false, epoch: connection.epoch + 1 })
    else ask()
  }, RETRY_MS)
}

// The server answers, but its store does not: to ask it again and again would not help.
const STORE_AWAY = "SESSION_STORE_UNAVAILABLE"

/** Tells of a call that failed. */
export function failed(problem: Problem): void {
  if (problem.code !== Code.Unavailable || problem.reason === STORE_AWAY || connection.away) return
  become({ ...connection, away: true })
  ask()
}

/** What is on the page is loaded again. */
export function again(): void {
  become({ ...connection, epoch: connection.epoch + 1 })
}

export function useConnection(): Connection {
  const [, draw] = useState({})
  // An effect would begin to listen a frame later, and miss that the server came back meanwhile.
  useLayoutEffect(() => {
    const listener = () => draw({})
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }, [])
  return connection
}
