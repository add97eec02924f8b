"""What looks like a secret, and what only looks a little like one."""

import pytest

from evomerge.system.secrets import is_secret_place, looks_secret, secrets_in_data, secrets_in_text

# Put together here, so that no scanner of this repository finds a token in it.
SECRETS = {
    "hugging face": "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",
    "hugging face, short": "hf_" + "SECRETSECRET",
    "openai": "sk-" + "proj-" + "Ab1" * 12,
    "openai, old": "sk-" + "1234567890abcdef" * 2,
    "anthropic": "sk-" + "ant-api03-" + "xY9_" * 8,
    "github": "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",
    "github, fine": "github_pat_" + "11ABCDEFG0123456789_abcdefghij",
    "groq": "gsk_" + "aB3dE5fG7hI9jK1lM2nOpQ",
    "docker": "dckr_pat_" + "aB3dE5fG7hI9jK1lM2nO",
    "sendgrid": "SG." + "aB3dE5fG7hI9jK1lM2nO" + "." + "aB3dE5fG7hI9jK1lM2nO",
    "azure": "AccountKey=" + "aB3dE5fG7hI9jK1lM2nOaB3dE5fG==",
    "gitlab": "glpat-" + "aB3dE5fG7hI9jK1lM2nO",
    "slack": "xoxb-" + "1234567890-abcdefghij",
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "google": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + ".SflKxwRJSMeKKF2QT4",
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "address": "https://" + "me:hunter22@example.org/x",
    "database": "postgres://" + "root:pass@db/x",
    "bearer": "Authorization: Bearer " + "abc123def456ghi789jkl0",
}
HARMLESS = (
    "meta-llama/Llama-3.1-8B-Instruct", "hf_transformers_baseline", "/models/hf_Mistral7BInstruct", "a:b@c", "zoo:math",
    "sk-learn-based-feature-extraction", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "xoxo",
    "62036db0b8b18ae07ad8c7da1f1ad2d1bd6f3a11", "http://localhost:8080/v1", "https://huggingface.co/org/model",
    "git@github.com:me/repo.git", "docker://org/image:tag@sha256:abc", "AKIAH", "eyJust a word", "me@example.org",
    "token: </s>", "2026-11-26T10:00:00Z",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_tokens_of_known_services_are_found_wherever_they_stand(name: str) -> None:
    value = SECRETS[name]
    assert looks_secret(value) and looks_secret(f"see '{value}', please")
    [found] = secrets_in_data({"a": [{"note": f"x {value}"}]})
    assert found.place == "a[0].note" and value not in found.what
    [line] = secrets_in_text(f"first\nnote: {value}\nlast")
    assert line.line == 2


@pytest.mark.parametrize("text", HARMLESS)
def test_names_hashes_and_addresses_are_no_secrets(text: str) -> None:
    assert not looks_secret(text)
    assert not list(secrets_in_data({"a": text}))
    assert not list(secrets_in_text(f"a: {text}"))


@pytest.mark.parametrize(
    "key",
    ["HF_TOKEN", "MY_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "password", "api_key", "apiKey", "client-secret",
     "hf_token", "auth_token", "private_key", "SECRET"],
)  # fmt: skip
def test_values_of_keys_that_are_named_like_secrets_are_found(key: str) -> None:
    assert is_secret_place(f"a.{key}")
    assert [one.place for one in secrets_in_data({"a": {key: "correcthorse"}})] == [f"a.{key}"]
    for line in (f"{key}: correcthorse", f'  "{key}": "correcthorse",', f"export {key}='correcthorse'"):
        assert [one.place for one in secrets_in_text(line)] == [key], line
    for value in ("${oc.env:HF_TOKEN}", "", None, True, 12, "<your token>", "***", "$HF_TOKEN", "changeme", "xxx"):
        assert not list(secrets_in_data({key: value})), value
        assert not list(secrets_in_text(f"{key}: {value}")), value


@pytest.mark.parametrize(
    "key",
    ["eos_token", "pad_token", "bos_token_id", "tokenizer", "max_new_tokens", "answer_key", "sort_key", "image_token",
     "key", "keys", "tokens", "secretary", "unk_token", "token_type_ids", "generated_tokens"],
)  # fmt: skip
def test_keys_of_models_and_tasks_are_no_secrets(key: str) -> None:
    assert not is_secret_place(key)
    assert not list(secrets_in_data({key: "correcthorse"})) and not list(secrets_in_text(f'"{key}": "correcthorse"'))


def test_in_code_only_the_value_itself_counts() -> None:
    code = "self.api_key = config.api_key\nSECRET = load_secret()\n"
    assert not list(secrets_in_text(code, by_name=False))
    assert len(list(secrets_in_text(code + SECRETS["github"], by_name=False))) == 1
