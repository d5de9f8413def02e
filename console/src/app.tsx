// The frame of all pages: navigation, theme, and what is said when the server is away.

import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { ComponentType } from "preact"
import { useCall } from "./calls"
import { useConnection } from "./connection"
import { SignIn } from "./components/sign_in"
import { Answer, Loading, ProblemBox } from "./components/states"
import { KnownContext, load } from "./known"
import { fromText, newRequest, toText, type Request } from "./request"
import { address, readRoute, remember, useRoute } from "./route"
import { useTheme, type Theme } from "./theme"
import { signOut, useToken } from "./token"

/** What every page is given: Try and Taste share one request. */
export interface PageProps {
  params: URLSearchParams
  request: Request
  setRequest: (request: Request) => void
}

interface Page {
  name: string
  title: string
  /** Its code is fetched when it is first shown. */
  content: () => Promise<ComponentType<PageProps>>
  /** It shows the request, and has it in its address. */
  steers?: boolean
}

const PAGES: Page[] = [
  { name: "try", title: "Try", content: async () => (await import("./pages/try")).Try, steers: true },
  { name: "taste", title: "Taste", content: async () => (await import("./pages/taste")).Taste, steers: true },
  { name: "concepts", title: "Concepts", content: async () => (await import("./pages/concepts")).Concepts },
  { name: "features", title: "Features", content: async () => (await import("./pages/features")).Features },
  { name: "scenarios", title: "Scenarios", content: async () => (await import("./pages/scenarios")).Scenarios },
  { name: "model", title: "Model", content: async () => (await import("./pages/model")).ModelPage },
  { name: "traffic", title: "Traffic", content: async () => (await import("./pages/traffic")).Traffic },
]

// Browsers allow a hundred changes of the address in half a minute.
const ADDRESS_MS = 350

export function App() {
  const route = useRoute()
  const page = PAGES.find(({ name }) => name === route.page) ?? PAGES[0]!
  const { away } = useConnection()
  const { signedIn, wanted } = useToken()
  const known = useCall(load, [])
  const content = useCall(async () => ({ page, Content: await page.content() }), [page])
  const [request, setRequest] = useRequest(route.params.get("r"), page)
  const text = useMemo(() => toText(request), [request])
  const main = useRef<HTMLElement>(null)
  const first = useRef(true)
  useEffect(() => {
    document.title = `${page.title} · Steersman`
    if (!first.current) main.current?.focus()
    first.current = false
  }, [page.name])
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href={address("try")}>
          Steersman
        </a>
        <nav aria-label="Pages">
          {PAGES.map(({ name, title, steers }) => (
            <a
              key={name}
              href={address(name, steers ? { r: text } : {})}
              aria-current={name === page.name ? "page" : undefined}
            >
              {title}
            </a>
          ))}
        </nav>
        {signedIn && (
          <button type="button" onClick={signOut}>
            Sign out
          </button>
        )}
        <ThemeChoice />
      </header>
      {away && (
        <p class="away" role="status">
          The server does not answer. This page goes on by itself when it is back.
        </p>
      )}
      <main id="main" ref={main} tabIndex={-1} class={`page page-${page.name}`}>
        <h1 class="visually-hidden">{page.title}</h1>
        <Answer call={known} lines={6}>
          {(value) => (
            <KnownContext.Provider value={value}>
              {value.denied && <ProblemBox problem={value.denied} />}
              <Answer call={content} lines={6}>
                {({ page: shown, Content }) =>
                  shown === page ? (
                    <Content params={route.params} request={request} setRequest={setRequest} />
                  ) : (
                    <Loading lines={6} />
                  )
                }
              </Answer>
            </KnownContext.Provider>
          )}
        </Answer>
      </main>
      {wanted && <SignIn wanted={wanted} />}
    </>
  )
}

/** The request of the address, and the address of the request. */
function useRequest(text: string | null, page: Page): [Request, (request: Request) => void] {
  const [request, setRequest] = useState<Request>(() => (text && fromText(text)) || newRequest())
  const own = useRef(text)
  useEffect(() => {
    if (!text || text === own.current) return
    own.current = text
    const found = fromText(text)
    if (found) setRequest(found)
  }, [text])
  useEffect(() => {
    if (!page.steers) return
    const timer = setTimeout(() => {
      own.current = toText(request)
      remember(page.name, { ...Object.fromEntries(readRoute().params), r: own.current })
    }, ADDRESS_MS)
    return () => clearTimeout(timer)
  }, [request, page])
  return [request, setRequest]
}

const THEMES: Theme[] = ["system", "light", "dark"]

function ThemeChoice() {
  const [theme, setTheme] = useTheme()
  return (
    <label class="theme">
      <span class="visually-hidden">Colours</span>
      <select value={theme} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
        {THEMES.map((one) => (
          <option key={one} value={one}>
            {one === "system" ? "Colours: system" : one}
          </option>
        ))}
      </select>
    </label>
  )
}
