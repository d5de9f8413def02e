import { defineConfig } from "vite"

// The build is shipped inside the service's package, and served by the gateway under /console/.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../service/steersman_service/http/console",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  server: {
    proxy: {
      "^/(steersman\\.v1\\.|healthz|metrics\\.json)": process.env.STEERSMAN_GATEWAY ?? "http://127.0.0.1:8080",
    },
  },
})
