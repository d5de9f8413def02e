// Features: what the model tells apart, what each one means, and what steering it does.

import { Code } from "@connectrpc/connect"
import { useState } from "preact/hooks"
import type { PageProps } from "../app"
import { features as catalogue, items as itemService } from "../api"
import { useCall, useSettled, type Call } from "../calls"
import { Bars } from "../components/bars"
import { pointsOf, SmallCurve } from "../components/curve"
import { Neighbours } from "../components/neighbours"
import { Search } from "../components/search"
import { Answer, Empty, ProblemBox } from "../components/states"
import {
  FeatureKind,
  type Association,
  type Feature,
  type GetFeatureResponse,
  type ListFeaturesResponse,
} from "../gen/steersman/v1/feature_service_pb"
import { percent, plural, signed } from "../format"
import { useKnown } from "../known"
import { useItems } from "../known-items"
import { featureName, points, share } from "../names"
import { attributeName } from "../target_names"
import { address, go } from "../route"
import { DetailHead, EffectCard, lastList, TopItems, TryIt, useListState } from "./catalogue"
import { LabelDialog } from "./label"

export function Features(props: PageProps) {
  const id = props.params.get("id")
  return id ? <Detail key={id} text={id} {...props} /> : <List {...props} />
}

const KINDS: Record<string, FeatureKind> = {
  discovered: FeatureKind.DISCOVERED,
  anchored: FeatureKind.ANCHORED,
}
const KIND_NAMES: Partial<Record<FeatureKind, string>> = {
  [FeatureKind.DISCOVERED]: "discovered",
  [FeatureKind.ANCHORED]: "made for a concept",
}
const PAGE_SIZE = 50
const SETTLED_MS = 160

/** All as they stand in the address: "1" is on, "" is off. */
interface Filters extends Record<string, string> {
  q: string
  items: string
  kind: string
  steerable: string
  rare: string
  page: string
}

// Where "previous" leads to, of pages that were come to by "next".
const before = new Map<string, string>()

function List({ params }: PageProps) {
  const [filters, setFilters] = useListState<Filters>("features", params, [
    "q",
    "items",
    "kind",
    "steerable",
    "rare",
    "page",
  ])
  const change = (some: Partial<Filters>) => setFilters({ page: "", ...some } as Partial<Filters>)
  const q = useSettled(filters.q.trim(), SETTLED_MS)
  const { items, kind, steerable, rare, page } = filters
  const call = useCall(
    (signal) =>
      catalogue.listFeatures(
        {
          text: q,
          itemIds: items ? items.split(",") : [],
          kind: KINDS[kind] ?? FeatureKind.UNSPECIFIED,
          steerableOnly: steerable === "1",
          includeRare: rare === "1",
          pageToken: page,
          pageSize: PAGE_SIZE,
        },
        { signal },
      ),
    [q, items, kind, steerable, rare, page],
  )
  return (
    <section class="card catalogue" aria-label="All features">
      <p class="note">
        A feature is something that the model tells apart in what people choose. Each is named after what it fires on.
        Rare ones fire on fewer than one event in 200.
      </p>
      <Tools filters={filters} change={change} total={call.value?.totalSize} />
      <Found
        call={call}
        filters={filters}
        clear={() => change({ q: "", items: "", kind: "", steerable: "", rare: "" })}
      />
    </section>
  )
}

interface ToolsProps {
  filters: Filters
  change: (some: Partial<Filters>) => void
  total: number | undefined
}

function Tools({ filters, change, total }: ToolsProps) {
  const check = (name: "steerable" | "rare", label: string) => (
    <label class="check">
      <input
        type="checkbox"
        checked={filters[name] === "1"}
        onChange={(event) => change({ [name]: event.currentTarget.checked ? "1" : "" })}
      />
      {label}
    </label>
  )
  return (
    <>
      <div class="list-tools">
        <label class="field grow">
          <span>Search</span>
          <input
            type="search"
            placeholder="Label, attribute value or title"
            value={filters.q}
            onInput={(event) => change({ q: event.currentTarget.value })}
          />
        </label>
        <OnItems ids={filters.items ? filters.items.split(",") : []} set={(ids) => change({ items: ids.join(",") })} />
      </div>
      <div class="list-tools">
        <label class="field">
          <span>Kind</span>
          <select value={filters.kind} onChange={(event) => change({ kind: event.currentTarget.value })}>
            <option value="">all</option>
            <option value="discovered">discovered by the model</option>
            <option value="anchored">made for a concept</option>
          </select>
        </label>
        {check("steerable", "Only those that do what they say")}
        {check("rare", "Rare ones, too")}
        <p class="muted" role="status">
          {total === undefined ? "" : plural(total, "feature")}
        </p>
      </div>
    </>
  )
}

const MOST_ITEMS = 100

/** "What fires on these?" */
function OnItems({ ids, set }: { ids: string[]; set: (ids: string[]) => void }) {
  const { titleOf } = useItems(ids)
  const find = async (text: string, signal: AbortSignal) => {
    const { items } = await itemService.listItems({ text, pageSize: 12 }, { signal })
    return items.map(({ itemId, title }) => ({ key: itemId, label: title }))
  }
  return (
    <div class="field grow">
      <span>What fires on these?</span>
      {ids.length < MOST_ITEMS && (
        <Search
          label="What fires on these? Add an item"
          placeholder="Add an item by its title"
          find={find}
          choose={({ key }) => set([...new Set([...ids, key])])}
        />
      )}
      {ids.length > 0 && (
        <ul class="chips">
          {ids.map((id) => (
            <li key={id} class="chip chip-item">
              {titleOf(id)}
              <button
                type="button"
                class="icon"
                aria-label={`Without ${titleOf(id)}`}
                onClick={() => set(ids.filter((other) => other !== id))}
              >
                ×
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  )
}

interface FoundProps {
  call: Call<ListFeaturesResponse>
  filters: Filters
  clear: () => void
}

function Found({ call, filters, clear }: FoundProps) {
  const fault = call.problem
  // A token is of one list of one bundle, an item of one bundle.
  if (fault?.code === Code.InvalidArgument)
    return (
      <Empty title={filters.page ? "This page is of another list" : "This search does not fit this bundle"}>
        {fault.fields[0]?.description ?? fault.detail}.{" "}
        <button type="button" class="link" onClick={clear}>
          Show all features
        </button>
      </Empty>
    )
  return (
    <Answer call={call} lines={10}>
      {({ features, nextPageToken }) =>
        features.length ? (
          <>
            <Table features={features} isBusy={call.loading} />
            <Pager filters={filters} next={nextPageToken} />
          </>
        ) : (
          <Empty title="No feature fits">
            {filters.rare !== "1" && "Rare ones are left out. "}
            <button type="button" class="link" onClick={clear}>
              Show all features
            </button>
          </Empty>
        )
      }
    </Answer>
  )
}

function Table({ features, isBusy }: { features: Feature[]; isBusy: boolean }) {
  return (
    <div class="table-scroll" aria-busy={isBusy}>
      <table>
        <thead>
          <tr>
            <th>Feature</th>
            <th class="number">Raises its share by</th>
            <th class="number">Share of the list</th>
            <th class="number">Accuracy kept</th>
            <th class="number">Active in</th>
            <th>By strength</th>
          </tr>
        </thead>
        <tbody>
          {features.map((feature) => (
            <Line key={feature.id} feature={feature} />
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Line({ feature }: { feature: Feature }) {
  const { effect } = feature
  return (
    <tr>
      <td>
        <a href={address("features", { id: `${feature.id}` })}>{featureName(feature.label, feature.id)}</a>{" "}
        <Chips feature={feature} />
        <small>{feature.topItemTitles.slice(0, 3).join(" · ")}</small>
      </td>
      <td class="number" data-name="raises by">
        {effect ? points(effect.shareAfter - effect.shareBefore) : "–"}
      </td>
      <td class="number" data-name="share">
        {effect ? `${share(effect.shareBefore)} → ${share(effect.shareAfter)}` : "–"}
      </td>
      <td class="number" data-name="accuracy kept">
        {effect ? percent(effect.ndcgKept) : "–"}
      </td>
      <td class="number" data-name="active in">
        {share(feature.density)}
      </td>
      <td class="curve-cell">
        <SmallCurve points={pointsOf(feature.curve, effect)} />
      </td>
    </tr>
  )
}

function Chips({ feature }: { feature: Feature }) {
  const kind = feature.kind === FeatureKind.ANCHORED && KIND_NAMES[feature.kind]
  return (
    <span class="chips">
      {kind && <span class="chip">{kind}</span>}
      {feature.correction && <span class="chip">label by {feature.correction.author || "a person"}</span>}
      {!feature.steerable && <span class="chip chip-warn">unproven</span>}
    </span>
  )
}

function Pager({ filters, next }: { filters: Filters; next: string }) {
  const { page } = filters
  if (!page && !next) return null
  const turn = (token: string) => {
    scrollTo(0, 0)
    go("features", { ...filters, page: token })
  }
  return (
    <nav class="pager" aria-label="Pages of features">
      {page && (
        <button type="button" onClick={() => turn(before.get(page) ?? "")}>
          {before.has(page) ? "Previous" : "First page"}
        </button>
      )}
      {next && (
        <button
          type="button"
          onClick={() => {
            before.set(next, page)
            turn(next)
          }}
        >
          Next
        </button>
      )}
    </nav>
  )
}

/** Twice as strong as a feature is ever naturally seen. */
const NATURAL = 2

function Detail({ text, ...props }: PageProps & { text: string }) {
  const { info } = useKnown()
  const [corrected, setCorrected] = useState<Feature>()
  const id = /^\d{1,9}$/.test(text) ? Number(text) : undefined
  const call = useCall(
    (signal): Promise<GetFeatureResponse | undefined> =>
      id === undefined ? Promise.resolve(undefined) : catalogue.getFeature({ id }, { signal }),
    [id],
  )
  const nothing = (
    <Empty title={`There is no feature ${text}`}>
      Features have other numbers after every training. <a href={lastList("features")}>All features</a>
    </Empty>
  )
  if (id === undefined || call.problem?.code === Code.NotFound || call.problem?.code === Code.InvalidArgument)
    return nothing
  if (call.problem && !call.problem.temporary) return <ProblemBox problem={call.problem} retry={call.reload} />
  return (
    <Answer call={call} lines={12}>
      {(answer) => {
        const feature = corrected ?? answer?.feature
        if (!feature) return nothing
        return (
          <OneFeature
            {...props}
            feature={feature}
            bundleVersion={answer?.bundleVersion || info.bundleVersion}
            setFeature={setCorrected}
          />
        )
      }}
    </Answer>
  )
}

interface OneFeatureProps extends PageProps {
  feature: Feature
  bundleVersion: string
  setFeature: (feature: Feature) => void
}

function OneFeature({ feature, bundleVersion, setFeature, request }: OneFeatureProps) {
  const [correcting, setCorrecting] = useState(false)
  const name = featureName(feature.label, feature.id)
  const value = { $typeName: "steersman.v1.FeatureRef" as const, id: feature.id, bundleVersion }
  const target = { case: "feature" as const, value }
  const isDead = feature.density === 0 && feature.scale === 0
  const natural = { up: NATURAL / (feature.unitUp || 1), down: NATURAL / (feature.unitDown || 1) }
  return (
    <>
      <DetailHead back={lastList("features")} section="Features" title={name} chips={<Chips feature={feature} />}>
        {!isDead && (
          <TryIt request={request} target={target}>
            Try it
          </TryIt>
        )}
        <button type="button" onClick={() => setCorrecting(true)}>
          Correct the label
        </button>
      </DetailHead>
      <Correction feature={feature} />
      {isDead && <p class="warning">It never fires, so that it cannot be steered.</p>}
      {!isDead && !feature.steerable && (
        <p class="warning">
          Steering it was not measured to do what its label says. It can be tried; what comes of it is less sure.
        </p>
      )}
      <div class="detail">
        <div>
          <EffectCard
            name={name}
            effect={feature.effect}
            curve={feature.curve}
            natural={natural}
            says={feature.correction ? "fits the automatic label" : "fits the label"}
          />
          <section class="card" aria-labelledby="near">
            <h2 id="near">Near to it</h2>
            <Neighbours of={target} />
          </section>
        </div>
        <div>
          <TopItems titles={feature.topItemTitles}>
            <p class="note">
              Active in {share(feature.density)} of all events
              {feature.topItemIds.length > 0 && (
                <>
                  .{" "}
                  <a href={address("features", { items: feature.topItemIds.slice(0, 5).join(",") })}>
                    What else fires on these?
                  </a>
                </>
              )}
            </p>
          </TopItems>
          <Quality feature={feature} />
        </div>
      </div>
      {correcting && (
        <LabelDialog
          feature={feature}
          bundleVersion={bundleVersion}
          saved={setFeature}
          close={() => setCorrecting(false)}
        />
      )}
    </>
  )
}

function Correction({ feature: { correction } }: { feature: Feature }) {
  if (!correction) return null
  const { author, automaticLabel, carriedConfidence, time } = correction
  const day = time && new Date(Number(time.seconds) * 1000).toLocaleDateString("en", { dateStyle: "medium" })
  return (
    <p class="note">
      Label by {author || "a person"}
      {day && `, ${day}`}. The automatic one is <q>{automaticLabel || "no clear meaning"}</q>.
      {carriedConfidence > 0 &&
        ` It was made for a feature of an earlier bundle, which this one is ${percent(carriedConfidence)} alike.`}
    </p>
  )
}

function Quality({ feature }: { feature: Feature }) {
  const { association, labelConfidence } = feature
  return (
    <section class="card" aria-labelledby="quality">
      <h2 id="quality">How well it tells things apart</h2>
      {labelConfidence > 0 && (
        <p>
          Where it fires, the {feature.correction && "automatic "}label is right for{" "}
          <strong>{percent(labelConfidence)}</strong> of items that it was not made from.
        </p>
      )}
      {association ? <Detection association={association} /> : <p class="muted">No attribute fits what it fires on.</p>}
    </section>
  )
}

/** Detection quality beside the best neuron. */
function Detection({ association }: { association: Association }) {
  const { attribute, value, correlation, rocAuc, neuronCorrelation, neuronRocAuc } = association
  const of = attributeName({ name: attribute, value })
  const bars = [
    { key: "feature", label: "This feature", amount: rocAuc, text: percent(rocAuc), kind: "control" as const },
    { key: "neuron", label: "Best neuron", amount: neuronRocAuc, text: percent(neuronRocAuc), kind: "rest" as const },
  ]
  return (
    <>
      <p>Of two items, one with “{of}” and one without, how often it is stronger on the one with it:</p>
      <Bars bars={bars} label={`Detection of ${of}`} onlyUp />
      <p class="note">
        50% is chance (area under the ROC curve). The best neuron is the single coordinate of the model's state that
        does best. Correlations: {signed(correlation)} and {signed(neuronCorrelation)}.
      </p>
    </>
  )
}
