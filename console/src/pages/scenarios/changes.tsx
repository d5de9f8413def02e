// Who changed what, newest first, and the way back.

import { useState } from "preact/hooks"
import { scenarios } from "../../api"
import { useCall } from "../../calls"
import { Dialog } from "../../components/dialog"
import { Answer, Empty } from "../../components/states"
import { ScenarioAction, type Scenario, type ScenarioChange } from "../../gen/steersman/v1/scenario_service_pb"
import type { Names } from "../../target_names"
import { useNames } from "../../use_target_names"
import { address } from "../../route"
import { Difference } from "./difference"
import { AuthorField, PublishOutcome, usePublish, validAuthor } from "./publish"
import { useAuthor } from "../../author"
import { by, when } from "./when"

const PAGE = 50

export interface ChangesProps {
  /** Of this scenario; "" for all. */
  name: string
  /** What is published now. */
  kept?: Scenario
  rolledBack: () => void
}

export function Changes({ name, kept, rolledBack }: ChangesProps) {
  const [pages, setPages] = useState(1)
  const call = useCall((signal) => load(name, pages, signal), [name, pages, kept?.version])
  const [back, setBack] = useState<ScenarioChange>()
  return (
    <Answer call={call} lines={6}>
      {({ changes, more }) =>
        changes.length ? (
          <>
            <List changes={changes} whole={!more} kept={kept} name={name} back={setBack} />
            {more && (
              <button type="button" onClick={() => setPages(pages + 1)}>
                Older changes
              </button>
            )}
            {back?.scenario && (
              <RollBack
                older={back.scenario}
                kept={kept}
                close={() => setBack(undefined)}
                done={() => {
                  setBack(undefined)
                  call.reload()
                  rolledBack()
                }}
              />
            )}
          </>
        ) : (
          <Empty title="No changes are kept">The server keeps the last 1,000 of all scenarios.</Empty>
        )
      }
    </Answer>
  )
}

async function load(
  name: string,
  pages: number,
  signal: AbortSignal,
): Promise<{ changes: ScenarioChange[]; more: boolean }> {
  const changes: ScenarioChange[] = []
  let pageToken = ""
  for (let page = 0; page < pages; page++) {
    const answer = await scenarios.listScenarioChanges({ name, pageSize: PAGE, pageToken }, { signal })
    changes.push(...answer.changes)
    pageToken = answer.nextPageToken
    if (!pageToken) break
  }
  return { changes, more: pageToken !== "" }
}

interface ListProps {
  changes: ScenarioChange[]
  /** The oldest that is kept is among them. */
  whole: boolean
  kept: Scenario | undefined
  name: string
  back: (change: ScenarioChange) => void
}

function List({ changes, whole, kept, name, back }: ListProps) {
  const names = useNames(changes.flatMap(({ scenario }) => (scenario ? [scenario] : [])))
  return (
    <ol class="trail">
      {changes.map((change, index) => (
        <li key={`${change.name} ${change.version} ${index}`} class="card">
          <Entry
            change={change}
            earlier={changes.slice(index + 1).find((other) => other.name === change.name)}
            whole={whole}
            names={names}
            named={!name}
            now={index === 0 && kept?.version === change.version}
            back={name ? () => back(change) : undefined}
          />
        </li>
      ))}
    </ol>
  )
}

interface EntryProps {
  change: ScenarioChange
  earlier: ScenarioChange | undefined
  whole: boolean
  names: Names
  named: boolean
  now: boolean
  back: (() => void) | undefined
}

function Entry({ change, earlier, whole, names, named, now, back }: EntryProps) {
  const { name, action, version, author, time, scenario } = change
  const deleted = action === ScenarioAction.DELETE
  const known = version === 1n || earlier?.scenario !== undefined || earlier?.action === ScenarioAction.DELETE
  return (
    <article aria-label={`${named ? `${name}, ` : ""}version ${version}`}>
      <div class="card-head">
        <h2>
          {named && <a href={address("scenarios", { name, view: "changes" })}>{name}</a>}
          {named && ", "}
          {deleted ? "Deleted" : `Version ${version}`} {now && <span class="chip">published now</span>}
        </h2>
        {back && scenario && !now && (
          <button type="button" onClick={back} aria-label={`Roll back to this: version ${version}`}>
            Roll back to this
          </button>
        )}
      </div>
      <p class="muted">
        {by(author)}, {when(time)}
      </p>
      {scenario &&
        (known || whole ? (
          <Difference
            before={earlier?.scenario}
            after={scenario}
            names={names}
            same="Published again without a change."
          />
        ) : (
          <p class="muted">The one before it is among the older changes.</p>
        ))}
    </article>
  )
}

interface RollBackProps {
  older: Scenario
  kept: Scenario | undefined
  close: () => void
  done: () => void
}

function RollBack({ older, kept, close, done }: RollBackProps) {
  const [author, setAuthor] = useAuthor()
  const publishing = usePublish(author, done)
  const names = useNames(kept ? [older, kept] : [older])
  return (
    <Dialog title={kept ? `Roll back to version ${older.version}` : "Bring it back"} close={close}>
      <p>
        {kept
          ? `What version ${older.version} said is published as version ${kept.version + 1n}. Nothing is lost: version ${kept.version} stays in the list of changes.`
          : "It is published anew, as version 1."}
      </p>
      <Difference before={kept} after={older} names={names} same="Both say the same." />
      <PublishOutcome publishing={publishing} />
      <div class="row">
        <AuthorField author={author} setAuthor={setAuthor} />
        <span class="grow" />
        <button
          type="button"
          class="primary"
          disabled={publishing.busy || !validAuthor(author)}
          onClick={() => void publishing.publish(kept ?? { ...older, version: 0n }, older)}
        >
          {kept ? "Roll back" : "Publish again"}
        </button>
      </div>
    </Dialog>
  )
}
