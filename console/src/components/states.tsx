// Loading, empty, error and degraded states.

import { Code } from "@connectrpc/connect"
import type { ComponentChildren } from "preact"
import type { Problem } from "../api"
import type { Call } from "../calls"

export function Loading({ lines = 3, label = "Loading" }: { lines?: number; label?: string }) {
  return (
    <div class="loading" role="status" aria-label={label}>
      {Array.from({ length: lines }, (_, index) => (
        <span key={index} class="skeleton" />
      ))}
    </div>
  )
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <p>{children}</p>}
    </div>
  )
}

export function ProblemBox({ problem, retry }: { problem: Problem; retry?: () => void }) {
  // SignIn says why, and asks.
  if (problem.code === Code.Unauthenticated) return <Empty title="Sign in to see this" />
  return (
    <div class="problem" role="alert">
      <p class="problem-title">{problem.title}</p>
      {problem.fields.length ? (
        <ul>
          {problem.fields.map(({ field, description }) => (
            <li key={field}>
              <code>{field}</code> {description}
            </li>
          ))}
        </ul>
      ) : (
        <p>{problem.detail}</p>
      )}
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  )
}

/** The content of a call: loading the first time, what went wrong, or its value. */
export function Answer<T>({
  call,
  lines,
  children,
}: {
  call: Call<T>
  lines?: number
  children: (value: T) => ComponentChildren
}) {
  if (call.problem && (call.value === undefined || !call.problem.temporary))
    return <ProblemBox problem={call.problem} retry={call.reload} />
  if (call.value === undefined) return <Loading lines={lines ?? 3} />
  return <>{children(call.value)}</>
}
