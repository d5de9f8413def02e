// One scenario: its form beside what the draft does, and publishing.

import { useEffect, useState } from "preact/hooks"
import { problem as asProblem, scenarios, type Problem } from "../../api"
import { bytes, useAuthor } from "../../author"
import { Dialog } from "../../components/dialog"
import { ProblemBox } from "../../components/states"
import { plural } from "../../format"
import type { Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import { useNames } from "../../use_target_names"
import { changed, type Request, toText } from "../../request"
import { address, go } from "../../route"
import { Difference } from "./difference"
import { dropDraft, keepDraft, newScenario, readDraft, useDraft } from "./drafts"
import { Form, MOST_DESCRIPTION_BYTES } from "./form"
import { Preview } from "./preview"
import { AuthorField, PublishOutcome, usePublish, validAuthor } from "./publish"
import { difference, edited, opened, trimmed } from "./text"

const NAME = /^[A-Za-z0-9._:-]{1,128}$/

export interface EditorProps {
  /** Undefined: a new one. */
  kept: Scenario | undefined
  /** What page Try has set. */
  request: Request
  reload: () => void
  seed: number
  setSeed: (seed: number) => void
}

export function Editor({ kept, request, reload, seed, setSeed }: EditorProps) {
  const fresh = kept === undefined
  const [blank] = useState(newScenario)
  const { base, draft, set, start } = useDraft(kept?.name ?? "", kept ?? blank)
  const [author, setAuthor] = useAuthor()
  const names = useNames([draft, base])
  const publishing = usePublish(author, (now) => {
    if (fresh) dropDraft("")
    if (!now) return void (dropDraft(base.name), go("scenarios"))
    start(now)
    if (fresh) go("scenarios", { name: now.name })
    else reload()
  })
  const changes = difference(base.version ? base : undefined, draft, names)
  const nameIsWrong = fresh && draft.name !== "" && !NAME.test(draft.name)
  const ready =
    draft.name !== "" && !nameIsWrong && validAuthor(author) && bytes(draft.description) <= MOST_DESCRIPTION_BYTES
  return (
    <>
      <section class={fresh ? "card publish publish-new" : "card publish"} aria-label="Publish">
        {fresh && <NameField draft={draft} set={set} wrong={nameIsWrong} request={request} />}
        {!fresh && kept.version > base.version && (
          <p class="warning">
            Version {String(kept.version)} was published after you began. You will see both before anything is replaced.
          </p>
        )}
        <div class="row">
          <div class="grow" role="status">
            {changes.length === 0 ? (
              <span class="muted">{fresh ? "Nothing is set yet." : "As published."}</span>
            ) : (
              <details class="what-changed">
                <summary>{plural(changes.length, "change")} not published</summary>
                <Difference before={base.version ? base : undefined} after={draft} names={names} same="" />
              </details>
            )}
          </div>
          <AuthorField author={author} setAuthor={setAuthor} />
          {changes.length > 0 && !fresh && (
            <button type="button" onClick={() => start(kept)}>
              Undo all
            </button>
          )}
          <button
            type="button"
            class="primary"
            disabled={publishing.busy || !ready || (!fresh && changes.length === 0)}
            onClick={() => void publishing.publish(base, draft)}
          >
            {publishing.busy ? "Publishing" : `Publish version ${base.version + 1n}`}
          </button>
        </div>
        <PublishOutcome publishing={publishing} />
      </section>
      <div class="scenario-columns">
        <div class="scenario-preview">
          <Preview
            draft={draft}
            published={fresh ? undefined : base}
            names={names}
            seed={seed}
            shuffle={() => setSeed(seed + 1)}
          />
          <p class="row try-row">
            <a class="button" href={address("try", { r: toText(tried(draft, request, changes.length > 0)) })}>
              {changes.length ? "Try the draft" : "Try it"}
            </a>
          </p>
        </div>
        <div class="scenario-form">
          <Form draft={draft} set={set} names={names} />
        </div>
      </div>
    </>
  )
}

/** Page Try with the history that it has, and the scenario by name; a draft is not published, so its content is taken. */
function tried(draft: Scenario, request: Request, changedHere: boolean): Request {
  const { name, controls, filters, composition } = trimmed(draft)
  return changed(request, (copy) => {
    copy.scenario = changedHere ? "" : name
    copy.controls = changedHere ? controls : []
    copy.filters = changedHere ? filters : undefined
    copy.composition = changedHere ? composition : undefined
  })
}

interface NameFieldProps {
  draft: Scenario
  set: (draft: Scenario) => void
  wrong: boolean
  request: Request
}

function NameField({ draft, set, wrong, request }: NameFieldProps) {
  const { controls, filters, composition } = request
  const empty = !draft.controls.length && controls.length > 0
  return (
    <>
      <label class="field">
        <span class="field-title">Name, as apps will ask for it</span>
        <input
          type="text"
          autocomplete="off"
          spellcheck={false}
          value={draft.name}
          placeholder="home-second-row"
          aria-invalid={wrong}
          aria-describedby="scenario-name-note"
          onInput={(event) => set(edited(draft, (copy) => (copy.name = event.currentTarget.value.trim())))}
        />
        <span id="scenario-name-note" class={wrong ? "warning" : "note"}>
          Letters, digits, and any of the characters <code>. _ - :</code> are allowed, up to 128. The name cannot be
          changed later.
        </span>
      </label>
      {empty && (
        <p>
          <button
            type="button"
            onClick={() =>
              set(
                opened(
                  edited(draft, (copy) => {
                    copy.controls = controls
                    copy.filters = filters
                    copy.composition = composition
                  }),
                ),
              )
            }
          >
            Begin with what page Try has set ({plural(controls.length, "control")})
          </button>
        </p>
      )}
    </>
  )
}

export function DeleteButton({ kept, reload }: { kept: Scenario; reload: () => void }) {
  const [open, setOpen] = useState(false)
  const [author, setAuthor] = useAuthor()
  const [busy, setBusy] = useState(false)
  const [problem, setProblem] = useState<Problem>()
  useEffect(() => setProblem(undefined), [kept.version])
  const remove = async () => {
    setBusy(true)
    try {
      await scenarios.deleteScenario({ name: kept.name, version: kept.version, author })
      dropDraft(kept.name)
      go("scenarios")
    } catch (error) {
      setProblem(asProblem(error))
      reload()
    }
    setBusy(false)
  }
  return (
    <>
      <button type="button" class="danger" onClick={() => setOpen(true)}>
        Delete
      </button>
      {open && (
        <Dialog title={`Delete ${kept.name}?`} close={() => setOpen(false)}>
          <p>Requests that name it are refused from then on. It can be brought back from the list of changes.</p>
          {readDraft(kept.name) && <p class="warning">Changes of yours that are not published are dropped, too.</p>}
          {problem && <ProblemBox problem={problem} />}
          <div class="row">
            <AuthorField author={author} setAuthor={setAuthor} />
            <span class="grow" />
            <button type="button" class="danger" disabled={busy || !validAuthor(author)} onClick={() => void remove()}>
              Delete version {String(kept.version)}
            </button>
          </div>
        </Dialog>
      )}
    </>
  )
}

/** Changes to a scenario that somebody has deleted meanwhile. */
export function Orphaned({ name }: { name: string }) {
  const [kept, setKept] = useState(() => readDraft(name))
  if (!kept) return null
  const drop = () => {
    dropDraft(name)
    setKept(undefined)
  }
  const goOn = () => {
    keepDraft("", { base: newScenario(), draft: kept.draft })
    dropDraft(name)
    go("scenarios", { view: "new" })
  }
  return (
    <div class="card">
      <p>There are changes of yours to it that were not published.</p>
      <div class="row">
        <button type="button" class="primary" onClick={goOn}>
          Make it anew with them
        </button>
        <button type="button" onClick={drop}>
          Drop them
        </button>
      </div>
    </div>
  )
}
