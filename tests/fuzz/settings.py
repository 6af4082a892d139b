"""Hostile settings: they are refused with every problem in words, or they are settings that the rest can work with."""

import random
from pathlib import Path

from reconciler.config import known_keys, load
from tests.fuzz.mutate import byte_variation
from tests.fuzz.verdict import Verdict, bounded

MISPLACED = "jca_9f8e7d6c5b4a39281706f5e4d3c2b1a098765432"
"""A secret that somebody put into the settings. It must never be shown."""

_WHOLE = {
    "tenant": '"acme"',
    "jumpcloud.application": '"Keeper"',
    "jumpcloud.api_key": '{ env = "KEY" }',
    "jumpcloud.base_url": '"https://console.eu.jumpcloud.com"',
    "jumpcloud.organization": '"0123456789abcdef01234567"',
    "jumpcloud.in_flight": "4",
    "keeper.scim_url": '"https://keepersecurity.com/api/rest/scim/v2/123456789"',
    "keeper.token": '{ file = "token" }',
    "keeper.inventory_command": '["keeper", "enterprise-info"]',
    "schedule.interval": '"5m"',
    "schedule.resync": '"03:00"',
    "policy.mode": '"enforce"',
    "policy.protect": '["breakglass@example.com"]',
    "policy.only": '{ groups = ["IT"], users = ["ada@example.com"] }',
    "policy.grace": '"30m"',
    "teams.include": '["*"]',
    "teams.exclude": '["tmp-*"]',
    "teams.role_prefix": '"role-"',
    "teams.queue_age": '"4h"',
    "safety.max_deactivations": '"2%"',
    "safety.max_creations": "5",
    "safety.always_allow": "3",
    "state.path": '"state.db"',
    "state.history": '"400d"',
    "report.directory": '"reports"',
    "notify.webhook": '{ env = "HOOK" }',
    "notify.command": '["true"]',
    "metrics.listen": '"127.0.0.1:9464"',
    "log.level": '"INFO"',
}
"""Settings that are as they should be: keys with their sections, values as TOML."""
_ALL_KEYS = sorted(known_keys())

_VALUES = (
    '""', "''", '" "', "0", "-1", "1", "true", "false", "1.5", "inf", "nan", "-0.0", "[]", "{}", "[[]]", "[{}]", "[1, 2]",
    '["a", 1]', '[""]', '{ env = "A", file = "b" }', '{ env = "a b" }', "{ env = 1 }", "{ environment = \"X\" }", "{ file = \"\" }",
    '{ file = "/dev/zero" }', '{ file = "/dev/stdin" }', '{ file = "." }', '{ credential = "../x" }', "{ a.b.c = 1 }", "{ = 1 }",
    f'"{MISPLACED}"', f'{{ env = "{MISPLACED}" }}', f'{{ file = "{MISPLACED}" }}', f'["{MISPLACED}"]', f"{{ {MISPLACED} = 1 }}",
    f"{{ credential = \"{MISPLACED}\", x = 1 }}", f"'''{MISPLACED}", f"{MISPLACED}",
    "9" * 400, "9" * 5_000, "-" + "9" * 5_000, "0x" + "f" * 5_000, "0b" + "1" * 20_000, "1e400", "1e99999999", "0o777", "1_000", "1__0",
    "1979-05-27", "07:32:00", "25:00:00", "1979-05-27T07:32:00Z", "1979-05-27T07:32:00.999999999-23:59", "0000-00-00", "9999-12-31",
    '"\\u0000"', '"\\u001b[31m"', '"\\ud800"', '"\\U0010ffff"', '"\\U00110000"', '"\\u202e"', '"\\q"', '"\\', '"""\na\nb"""', "'''\n'''",
    '"a\\nb"', '"\u202egnp"', '"\u200b"', '"\uff0f"', "\"e\u0301\"", '"x\0y"', "\"\x1b]0;t\x07\"", '"' + "a" * 100_000 + '"',
    '"' + "\u0301" * 5_000 + '"', "[" * 1_000 + "]" * 1_000, "[" * 100_000, "{ a = " * 1_000 + "1" + " }" * 1_000, "{ a = " * 30_000,
    "{ " + "a." * 5_000 + "b = 1 }", "[" + "1, " * 50_000 + "]", "[" + '"a@b.c", ' * 20_000 + "]",
    '"http://169.254.169.254/"', '"https://user:pass@console.jumpcloud.com"', '"https://console.jumpcloud.com.evil.example"',
    '"https://xn--/"', '"https://[::1"', '"https://a:99999"', '"HTTPS://CONSOLE.JUMPCLOUD.COM/"', '"http://localhost"', '"file:///x"',
    '"https://keepersecurity.com/api/rest/scim/v2/1/../2"', '"https://keepersecurity.com/api/rest/scim/v2/\u0663"', '"100%"', '"101%"',
    '"99.9999%"', '"1e2%"', '"\u0661%"', '"-5%"', '" 5%"', '"99999d"', '"9999999d"', '"1w"', '"\u0661s"', '"0s"', '"24:00"', '"3:00"',
    '"127.0.0.1:0"', '":9464"', '"[::1]:99999"', '"[::g]:1"', '"0.0.0.0:09464"', '"' + "a" * 5_000 + ':1"', '"~/x"', '"/"', '"a\\u0000b"',
    '"../../../../etc/passwd"', '"' + "a/" * 5_000 + '"', '["/bin/sh", "-c", "x\\u0000"]', '["", "x"]', '[""", x"""]', "[ # nothing\n]",
    '"$(id)"', '"%s%n"', '"{0}"', '"{found}"', '"*"', '"[!"', '"[[:alpha:]"', '"' + "*a" * 300 + '"', '"@"', '"a@b@c"', '"a b@c"',
)  # fmt: skip
_KEYS = (
    "tenant", "nonsense", '""', '"a.b"', "'\u202e'", '"\\u001b[2J"', "__proto__", "__class__", "model_config", "_file", "policy", "rules",
    "a" * 300, f'"{"x" * 100_000}"', MISPLACED, f'"{MISPLACED}"', "a.b.c.d.e", "a." * 2_000 + "b", "keeper.scim_url", "log", "\u00e4",
    '"\\ud800"', "'\x7f'", "= ", "[x]", "[[x]]", "1", "-", '"max_deactivations "', "Max_Deactivations",
)  # fmt: skip


class SettingsFiles:
    """The whole kind: input by input, each from its own generator."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "config.toml"
        example = Path(__file__).parents[2] / "config.example.toml"
        self._example = example.read_text()

    def try_one(self, draw: random.Random) -> Verdict:
        """Load one hostile settings file, and ask the settings for all that is made of them."""
        raw, words = self._file(draw)
        verdict = Verdict("settings", words)
        self._path.write_bytes(raw)
        with bounded(verdict):
            try:
                settings = load(self._path)
                settings.policy()
                settings.limits()
                settings.state_path()
                for problem in settings.problems():
                    verdict.shown(str(problem), [MISPLACED])
            except Exception as error:
                verdict.error(error, [MISPLACED], str(self._path))
        self._path.unlink()
        return verdict

    def _file(self, draw: random.Random) -> tuple[bytes, str]:
        chance = draw.random()
        if chance < 0.15:
            return byte_variation(self._example.encode(), draw)
        values = {key: value for key, value in _WHOLE.items() if draw.random() < 0.7 or key.startswith("keeper.")}
        if chance < 0.30:
            return byte_variation(_text(values, draw).encode(), draw)
        if chance < 0.31:
            return _whole_file(draw)
        done = []
        for _ in range(draw.choice((1, 1, 1, 2, 5, 20))):
            key = draw.choice(_ALL_KEYS)
            section = key.rpartition(".")[0]
            match draw.randrange(8):
                case 0:
                    key = draw.choice(list(values) or [key])
                    values.pop(key, None)
                    done.append(f"{key} missing")
                case 1:
                    key = f"{section}.{draw.choice(_KEYS)}".lstrip(".")
                    values[key] = draw.choice(_VALUES)
                    done.append(f"{key:.60} there")
                case 2:
                    moved = f"{draw.choice(_ALL_KEYS).partition('.')[0]}.{key.rpartition('.')[2]}"
                    values[moved] = values.pop(key, '"5m"')
                    done.append(f"{key} as {moved}")
                case 3:
                    other = draw.choice(list(_WHOLE))
                    values[key] = _WHOLE[other]
                    done.append(f"{key} like {other}")
                case _:
                    values[key] = draw.choice(_VALUES)
                    done.append(f"{key} = {values[key]:.60}")
        return _text(values, draw).encode("utf-8", "surrogatepass"), ", ".join(done)


def _text(values: dict[str, str], draw: random.Random) -> str:
    sections: dict[str, list[str]] = {"": []}
    for key, value in values.items():
        section, _, name = key.rpartition(".") if not key.endswith('"') else key.partition(".")
        sections.setdefault(section, []).append(f"{name} = {value}")
    order = list(sections)
    if draw.random() < 0.3:
        draw.shuffle(order)
    return "\n".join((f"[{name}]\n" if name else "") + "\n".join(sections[name]) + "\n" for name in order)


def _whole_file(draw: random.Random) -> tuple[bytes, str]:
    """Files that are wrong as a whole."""
    mib = 2**20
    match draw.randrange(14):
        case 0:
            return b"a" * (mib + draw.randrange(-3, 3)), "about a MiB of one letter"
        case 1:
            return b"a = 1\n" * 100_000, "a key 100,000 times"
        case 2:
            return b"".join(b"k%d = %d\n" % (n, n) for n in range(40_000)), "40,000 unknown keys"
        case 3:
            return b"".join(b"[s%d]\n" % n for n in range(50_000)), "50,000 sections"
        case 4:
            return b"a." * draw.choice((1_000, 20_000, 400_000)) + b"b = 1\n", "a key of a great many parts"
        case 5:
            return b"[" + b"a." * draw.choice((1_000, 20_000, 400_000)) + b"b]\n", "a section of a great many parts"
        case 6:
            return b'"a" . ' * draw.choice((1_000, 20_000, 100_000)) + b"b = 1\n", "a key of a great many quoted parts"
        case 7:
            return b"[[keeper]]\n" * draw.choice((1, 2, 50_000)), "a list of sections"
        case 8:
            return b"#" * mib, "one comment"
        case 9:
            return b"\n" * mib, "empty lines"
        case 10:
            return draw.randbytes(draw.choice((1, 100, 10_000))), "noise"
        case 11:
            return b"x = [" + b"{a=1}," * 100_000 + b"]", "a list of tables"
        case 12:
            return b'x = "' + b"\\u0061" * 100_000 + b'"', "escapes"
        case _:
            return b"keeper.a.b = 1\n" * 2 + b'"' * 100_000, "quotes"
