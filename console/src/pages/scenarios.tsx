// Scenarios: their list, or one of them: edited, its changes, and how it stands with the bundle that is served.

import { Code } from "@connectrpc/connect"
import { useState } from "preact/hooks"
import type { PageProps } from "../app"
import { scenarios } from "../api"
import { useCall } from "../calls"
import { Answer, Empty } from "../components/states"
import { address, remember } from "../route"
import { Changes } from "./scenarios/changes"
import { DeleteButton, Editor, Orphaned } from "./scenarios/editor"
import { ScenarioList } from "./scenarios/list"
import { Replay } from "./scenarios/replay"
import { by, when } from "./scenarios/when"
import "./scenarios.css"

const VIEWS = { edit: "Edit", changes: "Changes", replay: "With this bundle" } as const

type View = keyof typeof VIEWS

const MOST_SEED = 0xffffffff

function readSeed(text: string | null): number {
  const seed = Number(text ?? 1)
  return Number.isInteger(seed) && seed > 0 && seed <= MOST_SEED ? seed : 1
}

export function Scenarios({ params, request }: PageProps) {
  const name = params.get("name") ?? ""
  const view = params.get("view") ?? "edit"
  const [seed, setSeed] = useState(() => readSeed(params.get("seed")))
  const keepSeed = (next: number) => {
    setSeed(next)
    remember("scenarios", { ...Object.fromEntries(params), seed: String(next) })
  }
  if (name)
    return (
      <One
        key={name}
        name={name}
        view={view in VIEWS ? (view as View) : "edit"}
        request={request}
        seed={seed}
        setSeed={keepSeed}
      />
    )
  if (view === "changes")
    return (
      <>
        <Back />
        <h2 class="page-title">All changes</h2>
        <Changes name="" rolledBack={() => undefined} />
      </>
    )
  if (view === "new")
    return (
      <>
        <Back />
        <h2 class="page-title">New scenario</h2>
        <Editor kept={undefined} request={request} reload={() => undefined} seed={seed} setSeed={keepSeed} />
      </>
    )
  return <ScenarioList />
}

function Back() {
  return (
    <p>
      <a href={address("scenarios")}>All scenarios</a>
    </p>
  )
}

interface OneProps extends Pick<PageProps, "request"> {
  name: string
  view: View
  seed: number
  setSeed: (seed: number) => void
}

function One({ name, view, request, seed, setSeed }: OneProps) {
  const call = useCall(
    async (signal) => {
      try {
        return (await scenarios.getScenario({ name }, { signal })).scenario ?? null
      } catch (error) {
        if ((error as { code?: Code }).code === Code.NotFound) return null
        throw error
      }
    },
    [name],
  )
  return (
    <>
      <Back />
      <Answer call={call} lines={8}>
        {(kept) => (
          <>
            <div class="row page-head">
              <div class="grow">
                <h2 class="page-title">{name}</h2>
                {kept && (
                  <p class="muted">
                    Version {String(kept.version)}, {by(kept.updatedBy)}, {when(kept.updated)}
                  </p>
                )}
              </div>
              {kept && <DeleteButton kept={kept} reload={call.reload} />}
            </div>
            {kept && (
              <nav class="tabs" aria-label={`Views of ${name}`}>
                {(Object.keys(VIEWS) as View[]).map((each) => (
                  <a
                    key={each}
                    href={address("scenarios", { name, view: each })}
                    aria-current={each === view ? "page" : undefined}
                  >
                    {VIEWS[each]}
                  </a>
                ))}
              </nav>
            )}
            {kept && view === "edit" && (
              <Editor kept={kept} request={request} reload={call.reload} seed={seed} setSeed={setSeed} />
            )}
            {kept && view === "replay" && <Replay scenario={kept} />}
            {!kept && (
              <div class="card">
                <Empty title="There is no such scenario">
                  If there was one, its changes are below, and it can be brought back.
                </Empty>
              </div>
            )}
            {!kept && <Orphaned name={name} />}
            {(!kept || view === "changes") && <Changes name={name} kept={kept ?? undefined} rolledBack={call.reload} />}
          </>
        )}
      </Answer>
    </>
  )
}
