// How two versions differ, line by line.

import type { Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import type { Names } from "../../target_names"
import { difference, type Change } from "./text"

export interface DifferenceProps {
  before: Scenario | undefined
  after: Scenario
  names: Names
  /** What is said where they are alike. */
  same: string
}

export function Difference({ before, after, names, same }: DifferenceProps) {
  const changes = difference(before, after, names)
  if (!changes.length) return <p class="muted">{same}</p>
  const parts = [...new Set(changes.map(({ part }) => part))]
  return (
    <dl class="changes">
      {parts.map((part) => (
        <div key={part}>
          <dt>{part}</dt>
          <dd>
            <ul>
              {changes
                .filter((change) => change.part === part)
                .map(({ key, ...change }) => (
                  <One key={key} {...change} />
                ))}
            </ul>
          </dd>
        </div>
      ))}
    </dl>
  )
}

function One({ label, before, after }: Pick<Change, "label" | "before" | "after">) {
  return (
    <li>
      {label && <span>{label}</span>}
      {before !== undefined && (
        <del>
          <span class="visually-hidden">before: </span>
          {before}
        </del>
      )}
      {before !== undefined && after !== undefined && <span aria-hidden="true">→</span>}
      {after !== undefined && (
        <ins>
          <span class="visually-hidden">now: </span>
          {after}
        </ins>
      )}
      {after === undefined && <small>taken away</small>}
    </li>
  )
}
