"""A browser's name from a fixed list. What a stranger's browser says of itself is never repeated in an email."""

import re

# In this order: many browsers also name those after them.
BROWSERS = {
    "Edge": r"\bEdgA?(iOS)?/",
    "Opera": r"\bOPR/",
    "Samsung Internet": r"\bSamsungBrowser/",
    "Firefox": r"\b(Firefox|FxiOS)/",
    "Chrome": r"\b(Chrome|CriOS|HeadlessChrome)/",
    "Safari": r"\bVersion/[\d.]+ .*Safari/",
    "curl": r"^curl/",
}
SYSTEMS = {
    "Android": r"\bAndroid\b",
    "iOS": r"\b(iPhone|iPad)\b",
    "Windows": r"\bWindows NT\b",
    "macOS": r"\bMac OS X\b",
    "ChromeOS": r"\bCrOS\b",
    "Linux": r"\bLinux\b",
}


def first_match(patterns: dict[str, str], text: str) -> str:
    return next((name for name, pattern in patterns.items() if re.search(pattern, text)), "")


def browser_and_system(user_agent: str) -> tuple[str, str]:
    """Such as ("Chrome", "Linux"); empty strings for what is not on the lists."""
    return first_match(BROWSERS, user_agent), first_match(SYSTEMS, user_agent)
