#!/usr/bin/env bash
# Installs Chromium and its driver for the tests in tests/browser, where that can be done without asking: as root, with
# Debian's packages. Elsewhere it says how, and goes on: those tests are skipped then.
set -u

browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if browser >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi

say() { echo "tests/browser will be skipped: $1"; exit 0; }
how="install chromium and chromium-driver (apt-get install chromium chromium-driver), or Chrome with its chromedriver"
command -v apt-get >/dev/null || say "$how"
[ "$(id -u)" = 0 ] || say "as root, $how"
export DEBIAN_FRONTEND=noninteractive
install() { timeout 900 apt-get install -y -q --no-install-recommends chromium chromium-driver >/dev/null 2>&1; }
install || { timeout 300 apt-get update -q >/dev/null 2>&1 && install; } || say "the packages could not be installed; $how"
