// Hooks around calls.

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import { cancelled, problem, type Problem } from "./api"
import { failed, useConnection } from "./connection"
import { Latest } from "./latest"

export interface Call<T> {
  /** The last answer, also while the next one is awaited. */
  value?: T
  problem?: Problem
  loading: boolean
  reload: () => void
}

/** Calls `ask` when the page is shown, when `on` changes, and when the server comes back; an earlier call is cancelled. */
export function useCall<T>(ask: (signal: AbortSignal) => Promise<T>, on: readonly unknown[]): Call<T> {
  const { epoch } = useConnection()
  const [again, setAgain] = useState(0)
  const [state, setState] = useState<Omit<Call<T>, "reload">>({ loading: true })
  useEffect(() => {
    const abort = new AbortController()
    setState(({ value }) => ({ value, loading: true }))
    ask(abort.signal).then(
      (value) => abort.signal.aborted || setState({ value, loading: false }),
      (error: unknown) => {
        if (abort.signal.aborted || cancelled(error)) return
        const what = problem(error)
        failed(what)
        setState(({ value }) => ({ value, problem: what, loading: false }))
      },
    )
    return () => abort.abort()
  }, [...on, epoch, again])
  return { ...state, reload: useCallback(() => setAgain((times) => times + 1), []) }
}

/** As useCall, but through Latest: for what follows a slider. `undefined` asks nothing. */
export function useLatest<Q, A>(ask: (question: Q) => Promise<A>, question: Q | undefined): Call<A> & { of?: Q } {
  const { epoch } = useConnection()
  const [again, setAgain] = useState(0)
  const [state, setState] = useState<{ value?: A; of?: Q; problem?: Problem; loading: boolean }>({ loading: true })
  const latest = useRef<Latest<Q, A>>(undefined)
  latest.current ??= new Latest(
    ask,
    (value, of) => setState({ value, of, loading: false }),
    (error) => {
      const what = problem(error)
      failed(what)
      setState(({ value, of }) => ({ value, of, problem: what, loading: false }))
    },
  )
  // An effect would wait for the next frame first.
  useLayoutEffect(() => {
    if (question !== undefined) latest.current?.put(question)
  }, [question, epoch, again])
  return { ...state, reload: useCallback(() => setAgain((times) => times + 1), []) }
}

/** A value once it has stood still for so long. */
export function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value)
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms)
    return () => clearTimeout(timer)
  }, [value, ms])
  return settled
}
