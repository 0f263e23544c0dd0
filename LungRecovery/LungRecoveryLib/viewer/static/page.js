// What the page does without the server: the theme, the keys, and messages that vanish.
(function () {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const kept = window.localStorage.getItem("lungrecovery-theme");
  root.dataset.theme = kept || (dark.matches ? "dark" : "light");
  window.LungRecovery = {
    theme() {
      root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
      window.localStorage.setItem("lungrecovery-theme", root.dataset.theme);
    },
  };

  // The charts' library is large, so it is loaded when the first slice has been drawn.
  const waiting = window.setInterval(() => {
    const drawn = [...document.querySelectorAll(".pane img")].some((image) => image.naturalWidth > 20);
    if (!drawn || !window.trame) return;
    window.clearInterval(waiting);
    const state = window.trame.state;
    const script = document.createElement("script");
    script.src = state.get("chart_scripts")[0];
    script.onload = () => {
      document.querySelector("#app").__vue_app__.use(window.trame_plotly);
      state.set("charts_ready", state.get("charts_ready") + 1);  // shared by all tabs: each draws anew when it counts up
    };
    document.head.appendChild(script);
  }, 200);

  const taken = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];
  const known = taken.concat([..."0123456789cdfetbzxyw+-r"]);
  window.addEventListener("keydown", (event) => {
    const field = event.target.closest && event.target.closest("input, select, textarea");
    if (field || event.ctrlKey || event.metaKey || event.altKey || !window.trame) return;
    if (event.key === "?" || event.key === "Escape") {
      const state = window.trame.state;
      state.set("help", event.key === "?" && !state.get("help"));
    } else if (known.includes(event.key)) {
      window.trame.trigger("act", ["key", event.key, event.shiftKey]);
      if (taken.includes(event.key)) event.preventDefault();
    }
  }, true);
})();
