// Publishing with a version: another one that was published meanwhile is shown, and never overwritten unseen.

import { Code } from "@connectrpc/connect"
import { useEffect, useState } from "preact/hooks"
import { problem as asProblem, scenarios, type Problem } from "../../api"
import { bytes, MOST_AUTHOR_BYTES } from "../../author"
import { failed, useConnection } from "../../connection"
import { Dialog } from "../../components/dialog"
import { ProblemBox } from "../../components/states"
import { useToken } from "../../token"
import type { Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import { useNames } from "../../use_target_names"
import { Difference } from "./difference"
import { edited, same, trimmed } from "./text"
import { by, when } from "./when"

interface Conflict {
  base: Scenario
  mine: Scenario
  /** Undefined: it was deleted. */
  theirs: Scenario | undefined
}

export interface Publishing {
  busy: boolean
  problem?: Problem
  conflict?: Conflict
  /** `base` is what the change began with; its version is the one that is expected. */
  publish: (base: Scenario, mine: Scenario) => Promise<void>
  takeTheirs: () => void
  putOnTop: () => Promise<void>
  close: () => void
}

export function usePublish(author: string, published: (kept: Scenario | undefined) => void): Publishing {
  const [state, setState] = useState<Pick<Publishing, "busy" | "problem" | "conflict">>({ busy: false })
  const { epoch } = useConnection()
  useEffect(() => {
    if (state.problem?.temporary) setState({ busy: false })
  }, [epoch])
  const put = async (base: Scenario, mine: Scenario, version: bigint) => {
    setState({ busy: true })
    try {
      const scenario = trimmed(edited(mine, (copy) => (copy.version = version)))
      const { scenario: kept } = await scenarios.putScenario({ scenario, author })
      setState({ busy: false })
      published(kept)
    } catch (error) {
      const what = asProblem(error)
      failed(what)
      if (what.code !== Code.Aborted) return setState({ busy: false, problem: what })
      try {
        const theirs = await keptNow(mine.name)
        // The answer to an earlier try was lost.
        if (theirs && same(theirs, mine)) return void (setState({ busy: false }), published(theirs))
        setState({ busy: false, conflict: { base, mine, theirs } })
      } catch (second) {
        setState({ busy: false, problem: asProblem(second) })
      }
    }
  }
  return {
    ...state,
    publish: (base, mine) => put(base, mine, base.version),
    takeTheirs: () => {
      setState({ busy: false })
      published(state.conflict?.theirs)
    },
    putOnTop: async () => {
      const { conflict } = state
      if (conflict) await put(conflict.theirs ?? conflict.base, conflict.mine, conflict.theirs?.version ?? 0n)
    },
    close: () => setState({ busy: false }),
  }
}

async function keptNow(name: string): Promise<Scenario | undefined> {
  try {
    return (await scenarios.getScenario({ name })).scenario
  } catch (error) {
    if (asProblem(error).code === Code.NotFound) return undefined
    throw error
  }
}

/** What went wrong, and the choice between two versions. */
export function PublishOutcome({ publishing }: { publishing: Publishing }) {
  const { problem, conflict } = publishing
  return (
    <>
      {problem && (
        <>
          <ProblemBox problem={problem} />
          <p class="note">
            {problem.temporary
              ? "It may not have been published. Your changes are kept here: publish them again."
              : "Nothing was published. Your changes are kept here."}
          </p>
        </>
      )}
      {conflict && <ConflictDialog conflict={conflict} publishing={publishing} />}
    </>
  )
}

function ConflictDialog({
  conflict: { base, mine, theirs },
  publishing,
}: {
  conflict: Conflict
  publishing: Publishing
}) {
  const names = useNames([base, mine, ...(theirs ? [theirs] : [])])
  return (
    <Dialog title="Somebody else has changed it meanwhile" close={publishing.close}>
      <div class="pair conflict">
        <section aria-label="Theirs">
          <h3>Theirs</h3>
          {theirs ? (
            <>
              <p class="muted">
                Version {String(theirs.version)}, {by(theirs.updatedBy)}, {when(theirs.updated)}
              </p>
              <Difference
                before={base.version ? base : undefined}
                after={theirs}
                names={names}
                same="Nothing but the version."
              />
            </>
          ) : (
            <p>It was deleted.</p>
          )}
        </section>
        <section aria-label="Mine">
          <h3>Mine</h3>
          <p class="muted">{base.version ? `Changes to version ${base.version}` : "New"}, not published</p>
          <Difference before={base.version ? base : undefined} after={mine} names={names} same="Nothing." />
        </section>
      </div>
      <p class="note">
        {theirs
          ? "Putting mine on top publishes all of mine as the next version: what theirs changed is undone. Theirs stays in the list of changes."
          : "Putting mine on top makes it anew."}
      </p>
      <div class="row">
        <button type="button" onClick={publishing.takeTheirs}>
          {theirs ? "Take theirs, and drop mine" : "Leave it deleted"}
        </button>
        <button type="button" class="primary" disabled={publishing.busy} onClick={() => void publishing.putOnTop()}>
          Put mine on top
        </button>
      </div>
    </Dialog>
  )
}

export function AuthorField({ author, setAuthor }: { author: string; setAuthor: (author: string) => void }) {
  const { signedIn } = useToken()
  if (signedIn) return <span class="note">Recorded under the name of your token</span>
  return (
    <label class="author">
      <span>Your name</span>
      <input
        type="text"
        autocomplete="name"
        value={author}
        placeholder="for the list of changes"
        onInput={(event) => setAuthor(event.currentTarget.value)}
      />
      {bytes(author) > MOST_AUTHOR_BYTES && <span class="warning">Too long</span>}
    </label>
  )
}

export const validAuthor = (author: string): boolean => bytes(author) <= MOST_AUTHOR_BYTES
