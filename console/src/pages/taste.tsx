// What the model thinks a person likes, and a person's say in it.

import { Code, ConnectError } from "@connectrpc/connect"
import { useEffect, useRef, useState } from "preact/hooks"
import type { PageProps } from "../app"
import { explanations, recommendations, sessions } from "../api"
import { useCall, useLatest } from "../calls"
import { controlKey } from "../changes"
import { compared, ItemList } from "../components/items"
import { Answer, Empty, Loading, ProblemBox } from "../components/states"
import type { ActiveFeature } from "../gen/steersman/v1/explanation_service_pb"
import type { AppliedControl } from "../gen/steersman/v1/control_pb"
import { AnswerPart, type HistoryUse, type RecommendResponse } from "../gen/steersman/v1/recommendation_service_pb"
import type { Session } from "../gen/steersman/v1/session_service_pb"
import { plural } from "../format"
import { useItems } from "../known-items"
import { changed, toText, type Request } from "../request"
import { Changes } from "./taste_changes"
import { Likes } from "./taste_likes"
import { HistoryCard } from "./try/history"
import "./try.css"
import "./taste.css"

const TOP_FEATURES = 30

export function Taste(props: PageProps) {
  const { request, setRequest } = props
  const [said, say] = useState("")
  const [use, setUse] = useState<HistoryUse>()
  const [kept, setKept] = useState(0)
  const now = useRef(request)
  now.current = request
  const own = { say, setUse, wasKept: () => setKept((times) => times + 1) }
  const isSomebody = request.sessionId !== "" || (request.history?.itemIds.length ?? 0) > 0
  return (
    <div class="taste">
      <div class="taste-who">
        <HistoryCard
          key={kept}
          request={request}
          edit={(how) => {
            say("")
            setRequest(how(now.current))
          }}
          use={isSomebody ? use : undefined}
        />
        <p role="status" class={said ? "card up" : "visually-hidden"}>
          {said}
        </p>
      </div>
      {!isSomebody ? (
        <section class="card taste-wide">
          <Empty title="Whose taste?">
            Find a person by an item that they chose, take a random one, or the id of a session: then this page shows
            what the model thinks they like, and lets you correct it.
          </Empty>
        </section>
      ) : request.sessionId ? (
        <OfSession key={request.sessionId} {...props} {...own} />
      ) : (
        <Person {...props} {...own} />
      )}
    </div>
  )
}

interface Saying extends PageProps {
  /** Says what was done. */
  say: (text: string) => void
  setUse: (use: HistoryUse | undefined) => void
  /** The session is another one now. */
  wasKept: () => void
}

function OfSession(props: Saying) {
  const { sessionId } = props.request
  const call = useCall(
    async (signal) => {
      try {
        return (await sessions.getSession({ sessionId }, { signal })).session ?? "unknown"
      } catch (error) {
        if (ConnectError.from(error).code === Code.NotFound) return "unknown"
        throw error
      }
    },
    [sessionId],
  )
  if (call.value === "unknown" && !call.loading)
    return (
      <section class="card taste-wide">
        <Empty title={`There is no session “${sessionId}”`}>
          It begins with its first event, and is forgotten some time after its last use.
        </Empty>
      </section>
    )
  const session = typeof call.value === "object" ? call.value : undefined
  if (!session)
    return (
      <section class="card taste-wide">
        {call.problem ? <ProblemBox problem={call.problem} retry={call.reload} /> : <Loading lines={8} />}
      </section>
    )
  const wasKept = () => {
    props.wasKept()
    call.reload()
  }
  return <Person {...props} session={session} wasKept={wasKept} />
}

/** Whose list it is, with filters and the like, but without what is changed here. */
const unchanged = (request: Request): Request =>
  changed(request, (copy) => {
    copy.controls = []
    copy.newEvents = []
    copy.requestId = ""
    copy.receipt = false
    copy.parts = []
  })

/** Only the names of what was applied are shown, not what it came down to. */
const ask = (request: Request): Promise<RecommendResponse> =>
  recommendations.recommend(changed(request, (copy) => void (copy.parts = [AnswerPart.NONE])))

export interface PersonProps extends Saying {
  session?: Session
}

function Person(props: PersonProps) {
  const { request, session } = props
  const plain = unchanged(request)
  const of = `${toText(plain)} ${session?.version ?? ""}`
  const [withEvents, setWithEvents] = useState(false)
  const explained = useCall(
    async (signal) => ({
      of,
      ...(await explanations.explain({ request: plain, topFeatures: TOP_FEATURES }, { signal })),
    }),
    [of],
  )
  const carried = useCall(
    async (signal) => {
      if (!withEvents) return undefined
      const question = { request: plain, topFeatures: TOP_FEATURES, eventInfluence: true }
      const { taste } = await explanations.explain(question, { signal })
      return new Map(taste?.features.map(({ featureId, events }) => [featureId, events]))
    },
    [of, withEvents],
  )
  useEffect(() => props.setUse(explained.value?.recommendation?.historyUse), [explained.value])
  const isChanged = request.controls.length > 0
  const steered = useLatest(ask, isChanged ? request : undefined)
  const isSteered = isChanged && steered.of !== undefined && toText(unchanged(steered.of)) === toText(plain)
  const names = new Map(
    [...(explained.value?.recommendation?.appliedControls ?? []), ...(steered.value?.appliedControls ?? [])].flatMap(
      nameOf,
    ),
  )
  // The last answer stays until the next one is there, but not in place of one that failed.
  const isOfAnother = explained.value !== undefined && explained.value.of !== of
  if (explained.problem && (isOfAnother || !explained.value || !explained.problem.temporary))
    return (
      <section class="card taste-wide">
        <ProblemBox problem={explained.problem} retry={explained.reload} />
      </section>
    )
  return (
    <>
      <div class="taste-lists">
        <Changes {...props} names={names} taste={isOfAnother ? undefined : explained.value?.taste} />
        <section class="card taste-both" aria-label="Lists">
          <Answer call={explained} lines={10}>
            {({ recommendation }) => (
              <Lists
                before={recommendation}
                after={isSteered ? steered.value : undefined}
                isChanged={isChanged}
                isKept={(session?.controls.length ?? 0) > 0}
              />
            )}
          </Answer>
          {isChanged && steered.problem && <ProblemBox problem={steered.problem} retry={steered.reload} />}
        </section>
        {session && <Unwanted session={session} />}
      </div>
      <section class="card taste-likes" aria-label="What the model thinks this person likes">
        <Answer call={explained} lines={12}>
          {({ taste, recommendation }) => (
            <Likes
              {...props}
              features={taste?.features ?? ([] as ActiveFeature[])}
              unexplained={taste?.unexplainedShare ?? 0}
              names={names}
              isEmpty={recommendation?.historyUse?.empty ?? false}
              carried={carried}
              isCarriedAsked={withEvents}
              askCarried={() => setWithEvents(true)}
            />
          )}
        </Answer>
      </section>
    </>
  )
}

const nameOf = ({ control, displayName }: AppliedControl): [string, string][] =>
  control && displayName ? [[controlKey(control), displayName]] : []

interface ListsProps {
  before: RecommendResponse | undefined
  after: RecommendResponse | undefined
  isChanged: boolean
  isKept: boolean
}

/** The list as it is now, and as it would be. */
function Lists({ before, after, isChanged, isKept }: ListsProps) {
  const now = before?.items ?? []
  const next = after?.items ?? []
  const { rows, left } = compared(now, next)
  const gone = new Set(left.map(({ itemId }) => itemId))
  const warnings = [
    ...((after ?? before)?.appliedControls.flatMap((each) => each.warnings) ?? []),
    ...(after?.compositionNotes ?? []),
  ]
  if (!now.length) return <Empty title="The list is empty">Filters leave no item.</Empty>
  return (
    <>
      <div class="pair">
        <div>
          <h2>{isKept ? "Now, with what is kept" : "Now"}</h2>
          <ItemList
            label="The list now"
            rows={now.map(({ itemId, title }) => ({
              id: itemId,
              title,
              ...(after && gone.has(itemId) && { mark: "left" as const }),
            }))}
          />
        </div>
        <div>
          <h2>With your changes</h2>
          {after ? (
            <ItemList label="The list with your changes" rows={rows} />
          ) : isChanged ? (
            <Loading lines={8} />
          ) : (
            <Empty title="Nothing is changed yet">Turn down what is wrong about this person: the list follows.</Empty>
          )}
        </div>
      </div>
      {after && (
        <p class="note" role="status">
          {left.length
            ? `${plural(left.length, "item")} of ${now.length} left the list for others.`
            : "The same items are in the list."}
        </p>
      )}
      {[...new Set(warnings)].map((warning) => (
        <p key={warning} class="warning">
          {warning}
        </p>
      ))}
    </>
  )
}

const MOST_UNWANTED = 200

/** What the person disliked or hid: never recommended to them again. */
function Unwanted({ session }: { session: Session }) {
  const { dislikedItemIds: disliked, hiddenItemIds: hidden } = session
  const ids = [...disliked, ...hidden].slice(-MOST_UNWANTED)
  const { titleOf, isUnknown } = useItems(ids)
  if (!ids.length) return null
  const list = (name: string, of: string[]) =>
    of.length > 0 && (
      <div>
        <h3>{name}</h3>
        <ul class="unwanted">
          {of
            .slice(-MOST_UNWANTED)
            .reverse()
            .map((id) => (
              <li key={id}>{isUnknown(id) ? <em>unknown item {id}</em> : titleOf(id)}</li>
            ))}
        </ul>
      </div>
    )
  return (
    <section class="card taste-unwanted" aria-labelledby="unwanted">
      <h2 id="unwanted">Never shown again</h2>
      <p class="note">
        They are left out of every list, until the person chooses them, and turn the list gently away from their like.
      </p>
      <div class="pair">
        {list("Disliked", disliked)}
        {list("Hidden", hidden)}
      </div>
    </section>
  )
}
