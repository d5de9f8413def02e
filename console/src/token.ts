// The token by which the server knows who calls: kept in this tab alone, sent with each call, and asked for when the server wants one.

import { useLayoutEffect, useState } from "preact/hooks"
import { again } from "./connection"

const KEY = "steersman-token"

export interface Wanted {
  /** What the server says of the token that it refused; empty: there was none. */
  refused: string
}

let wanted: Wanted | undefined
const listeners = new Set<() => void>()

function tell(now: Wanted | undefined): void {
  wanted = now
  listeners.forEach((listener) => listener())
}

export const token = (): string => sessionStorage.getItem(KEY) ?? ""

export const headers = (): Record<string, string> => (token() ? { authorization: `Bearer ${token()}` } : {})

export function signIn(given: string): void {
  sessionStorage.setItem(KEY, given)
  tell(undefined)
  again()
}

export function signOut(): void {
  sessionStorage.removeItem(KEY)
  tell(undefined)
  again()
}

/** A call with the token `sent` was refused; what another one was sent with does not count any more. */
export function demand(sent: string, why: string): void {
  if (sent === token()) tell({ refused: sent && why })
}

export function useToken(): { signedIn: boolean; wanted: Wanted | undefined } {
  const [, draw] = useState({})
  // As in connection.ts: an effect would begin to listen too late.
  useLayoutEffect(() => {
    const listener = () => draw({})
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }, [])
  return { signedIn: token() !== "" && !wanted, wanted }
}
