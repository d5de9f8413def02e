import { useEffect, useState } from "preact/hooks"

export type Theme = "system" | "light" | "dark"

const KEY = "steersman-theme"

export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState<Theme>(() => (localStorage.getItem(KEY) as Theme | null) ?? "system")
  useEffect(() => {
    localStorage.setItem(KEY, theme)
    if (theme === "system") delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = theme
  }, [theme])
  return [theme, setTheme]
}
