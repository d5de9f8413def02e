// Pages by the part of the address after "#": "#/try?r=...".

import { useLayoutEffect, useState } from "preact/hooks"

export interface Route {
  /** "try" */
  page: string
  params: URLSearchParams
}

const FIRST_PAGE = "try"

export function readRoute(hash = location.hash): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2)
  return { page: path || FIRST_PAGE, params: new URLSearchParams(query) }
}

export function address(page: string, params: Record<string, string> = {}): string {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString()
  return `#/${page}${query ? `?${query}` : ""}`
}

/** Goes to a page: a step that the browser's back button undoes. */
export const go = (page: string, params: Record<string, string> = {}): void => {
  location.hash = address(page, params)
}

/** Writes what a page shows into the address, without a step of its own. */
export function remember(page: string, params: Record<string, string>): void {
  if (readRoute().page === page) history.replaceState(null, "", address(page, params))
}

export function useRoute(): Route {
  const [route, setRoute] = useState(readRoute)
  // An effect would begin to listen a frame later, and miss an address that changes meanwhile.
  useLayoutEffect(() => {
    const changed = () => setRoute(readRoute())
    addEventListener("hashchange", changed)
    return () => removeEventListener("hashchange", changed)
  }, [])
  return route
}
