// What is served and how it is changed: a bundle, a canary with its share, the step back; progress and refusals in words.

import { Code } from "@connectrpc/connect"
import { useEffect, useState } from "preact/hooks"
import { model, problem, releases as api, type Problem } from "../../api"
import { useCall } from "../../calls"
import { Dialog } from "../../components/dialog"
import { Answer, Empty, ProblemBox } from "../../components/states"
import { percent, short } from "../../format"
import type { BundleSummary } from "../../gen/steersman/v1/model_service_pb"
import { Channel, ReleaseState, type Release } from "../../gen/steersman/v1/release_service_pb"
import { date } from "./date"
import { described, nameOf } from "./release_words"

const REFRESH_MS = 1000
/** Loading takes as long as the bundle is large. */
const OPTIONS = { timeoutMs: 600_000 }
const CLOSED = [Code.PermissionDenied, Code.Unauthenticated, Code.Unimplemented]
const DEFAULT_PERCENT = 5

interface Step {
  title: string
  text: string
  act: () => Promise<{ releases: Release[] }>
}

export function Releases({ shown }: { shown: string }) {
  const [acting, setActing] = useState("")
  const [failure, setFailure] = useState<Problem>()
  const [asked, setAsked] = useState<Step>()
  const call = useCall(async (signal) => {
    try {
      const [listed, bundles] = await Promise.all([api.listReleases({}, { signal }), model.listBundles({}, { signal })])
      return { releases: listed.releases, bundles: bundles.bundles }
    } catch (error) {
      if (CLOSED.includes((error as { code?: Code }).code!)) return null
      throw error
    }
  }, [])
  const found = call.value?.releases ?? []
  const moving = acting !== "" || found.some(isMoving)
  useEffect(() => {
    if (!moving) return
    const timer = setInterval(call.reload, REFRESH_MS)
    return () => clearInterval(timer)
  }, [moving, call.reload])
  const run = async ({ title, act }: Step) => {
    setAsked(undefined)
    setFailure(undefined)
    setActing(title)
    try {
      await act()
    } catch (error) {
      setFailure(problem(error))
    } finally {
      setActing("")
      call.reload()
    }
  }
  return (
    <section class="card" aria-label="Releases">
      <h2>What answers calls</h2>
      <Answer call={call}>
        {(value) =>
          value ? (
            <>
              <List releases={value.releases} />
              {acting && (
                <p class="note" role="status">
                  {acting}: every file is verified, golden rows are replayed, and the old bundle answers meanwhile.
                </p>
              )}
              {failure && <ProblemBox problem={failure} />}
              <Outdated shown={shown} releases={value.releases} />
              <Controls {...value} busy={acting !== ""} ask={setAsked} run={run} />
            </>
          ) : (
            <Empty title="Not shown here">It needs a server that has it, and a caller with the role admin.</Empty>
          )
        }
      </Answer>
      {asked && (
        <Dialog title={asked.title} close={() => setAsked(undefined)}>
          <p>{asked.text}</p>
          <button type="button" class="primary" onClick={() => run(asked)}>
            {asked.title}
          </button>
        </Dialog>
      )}
    </section>
  )
}

const isMoving = ({ state }: Release) => state === ReleaseState.LOADING || state === ReleaseState.DRAINING

function List({ releases }: { releases: Release[] }) {
  return (
    <ul class="releases">
      {releases.map((release, index) => (
        <li key={index}>
          <code>{short(nameOf(release))}</code> {described(release)}
          {release.problem && <p class="note">{release.problem}</p>}
        </li>
      ))}
    </ul>
  )
}

/** The catalogue and the figures on all pages are those of the bundle that was stable when they were loaded. */
function Outdated({ shown, releases }: { shown: string; releases: Release[] }) {
  const stable = releases.find(({ channel, state }) => channel === Channel.STABLE && state === ReleaseState.SERVING)
  if (!stable || stable.version === shown) return null
  return (
    <p role="status">
      These pages still show <code>{short(shown)}</code>.{" "}
      <button type="button" onClick={() => location.reload()}>
        Load them again
      </button>
    </p>
  )
}

interface ControlsProps {
  releases: Release[]
  bundles: BundleSummary[]
  busy: boolean
  ask: (step: Step) => void
  run: (step: Step) => void
}

function Controls({ releases, bundles, busy, ask, run }: ControlsProps) {
  const serving = releases.filter(({ state }) => state === ReleaseState.SERVING)
  const canary = serving.find(({ channel }) => channel === Channel.CANARY)
  const before = releases.find(({ state }) => state === ReleaseState.BEFORE)
  const others = bundles.filter(({ version }) => !serving.some((each) => each.version === version))
  return (
    <fieldset class="release-controls" disabled={busy}>
      <legend class="visually-hidden">Change it</legend>
      {canary && <CanaryControls canary={canary} ask={ask} run={run} />}
      {others.length > 0 && <Load bundles={others} ask={ask} run={run} />}
      {!canary && before && (
        <button
          type="button"
          onClick={() =>
            ask({
              title: `Roll back to ${short(nameOf(before))}`,
              text: "It is loaded from its folder and then answers all calls of this server. The link to the bundle is turned back to it.",
              act: () => api.rollBack({}, OPTIONS),
            })
          }
        >
          Roll back to <code>{short(nameOf(before))}</code>
        </button>
      )}
    </fieldset>
  )
}

function CanaryControls({ canary, ask, run }: Pick<ControlsProps, "ask" | "run"> & { canary: Release }) {
  const [share, setShare] = useState(Math.round(100 * canary.share))
  return (
    <div class="release-row">
      <Share value={share} set={setShare} />
      <button
        type="button"
        onClick={() =>
          run({
            title: "Setting the share",
            text: "",
            act: () => api.setCanaryShare({ canaryShare: share / 100 }, OPTIONS),
          })
        }
      >
        Set the share
      </button>
      <button
        type="button"
        onClick={() =>
          ask({
            title: "Promote the canary",
            text: `${short(nameOf(canary))} answers all calls from now on, and is what is served after a restart.`,
            act: () => api.promoteCanary({ version: canary.version }, OPTIONS),
          })
        }
      >
        Promote it
      </button>
      <button
        type="button"
        onClick={() => run({ title: "Ending the canary", text: "", act: () => api.rollBack({}, OPTIONS) })}
      >
        End it
      </button>
    </div>
  )
}

function Load({ bundles, ask, run }: Pick<ControlsProps, "ask" | "run"> & { bundles: BundleSummary[] }) {
  const [chosen, setChosen] = useState("")
  const [share, setShare] = useState(DEFAULT_PERCENT)
  const bundle = bundles.some(({ version }) => version === chosen) ? chosen : bundles[0]!.version
  return (
    <div class="release-row">
      <label>
        Bundle{" "}
        <select value={bundle} onChange={(event) => setChosen(event.currentTarget.value)}>
          {bundles.map(({ version, created }) => (
            <option key={version} value={version}>
              {short(version)}, {date(created)}
            </option>
          ))}
        </select>
      </label>
      <button
        type="button"
        onClick={() =>
          ask({
            title: `Serve ${short(bundle)}`,
            text: "Once it is loaded it answers all calls of this server. The link to the bundle is turned to it, so that servers which share the folder follow.",
            act: () => api.loadRelease({ bundle, channel: Channel.STABLE }, OPTIONS),
          })
        }
      >
        Serve it
      </button>
      <Share value={share} set={setShare} />
      <button
        type="button"
        onClick={() =>
          run({
            title: `Loading ${short(bundle)} for ${percent(share / 100)} of sessions`,
            text: "",
            act: () => api.loadRelease({ bundle, channel: Channel.CANARY, canaryShare: share / 100 }, OPTIONS),
          })
        }
      >
        Try it as canary
      </button>
    </div>
  )
}

function Share({ value, set }: { value: number; set: (percent: number) => void }) {
  return (
    <label>
      Share of sessions, in percent{" "}
      <input
        type="number"
        min="0"
        max="100"
        value={value}
        onInput={(event) => set(Math.min(100, Math.max(0, event.currentTarget.valueAsNumber || 0)))}
      />
    </label>
  )
}
