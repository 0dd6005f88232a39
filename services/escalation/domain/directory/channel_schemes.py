"""The channels that messages may go to: each scheme with the options that its URL may have. Pure.

Whatever is not here is refused: a plug-in of Apprise that came later, and an option that it got later. An option is
here only if it names who sends, who receives, with which credential, or in which alphabet. None here reads a file
(`template`, `keyfile`, `attach`), fetches an address (`icon`, `image`, `discovery`), turns off the check of a
certificate (`verify`), follows a redirect (`redirect`), waits (`rto`, `cto`, `wait`), or adds headers and fields (those
that begin with +, - or :).
"""

from collections.abc import Mapping

NAMED = frozenset({"mailto", "sms"})
"""Schemes of `NAME:TO`, an address without `//`. Who brings it there is in the settings."""
OUTBOX = "outbox"
"""A file that stands in for a channel: for settings and for the sample."""
OWN = frozenset({OUTBOX, "webhook", "webhooks", "mailto", "mailtos", "sms"})
_WITH_A_SERVER = """
    webhook webhooks mailto mailtos json jsons bark barks gotify gotifys infobip mmost mmosts ntfy ntfys rocket rockets
    signal signals smseagle smseagles workflow workflows
"""
WITH_A_SERVER = frozenset(_WITH_A_SERVER.split())
"""Schemes whose URL has a server where others have a token or a name."""
_SMS = """
    46elks      to from
    elks        to from
    atalk       to from apikey
    bulksms     to from unicode
    bulkvs      to from
    burstsms    to from key secret country
    kudosity    to from key secret country
    clickatell  to from apikey
    clicksend   to key
    cm          to from token
    d7sms       to from source unicode
    exotel      to from sid token apikey key unicode region
    httpsms     to from key
    infobip     to from key
    kaleyra     to from sid key sender region
    klr         to from sid key sender region
    kavenegar   to from
    mobilemessage to from unicode
    mobilemsg   to from unicode
    msgbird     to from
    nexmo       to from key secret
    vonage      to from key secret
    octopush    to login key
    plivo       to from token id
    seven       to from source
    sinch       to from spi region token
    smseagle    to token
    smseagles   to token
    smsmanager  to from key sender
    smsmgr      to from key sender
    smstunnel   to key country
    sns         to token access key secret region
    telesign    to from key
    telnyx      to from key
    twilio      to from sid token apikey
    voipms      to from
"""
_PUSH = """
    bark        to level group
    barks       to level group
    dingtalk    to token secret
    discord
    feishu      token
    gchat       workspace key token thread
    gotify      priority
    gotifys     priority
    lark
    line        to
    mmost       to channel channels
    mmosts      to channel channels
    ntfy        to token auth mode priority
    ntfys       to token auth mode priority
    onesignal   to
    pbul        to
    pover       to priority sound
    prowl       priority
    psafer      to priority
    psafers     to priority
    pushy       to
    rocket      to mode webhook
    rockets     to mode webhook
    signal      to from
    signals     to from
    slack       to token mode
    spugpush
    tgram       to topic thread silent preview
    threema     to from gwid secret
    viber       to from token
    webex       to token mode
    wxteams     to token mode
    wecombot    key
    whatsapp    to from token
    workflow    id sig ver api-version
    workflows   id sig ver api-version
    zalo        to token
    zulip       to token
"""
_MAIL = """
    brevo       to reply
    mailgun     to from name region
    postmark    to name reply
    sendgrid    to
    ses         to from reply name token access key secret region
    smtp2go     to name
"""
_JSON = "json\njsons"
_LINES = [line.split() for text in (_SMS, _PUSH, _MAIL, _JSON) for line in text.strip().splitlines()]
APPRISE: Mapping[str, frozenset[str]] = {name: frozenset(options) for name, *options in _LINES}
"""The schemes that go through Apprise, each with the options that it may have."""
SCHEMES = OWN.union(APPRISE)
USUAL = "webhooks://…, mailto:…, sms:… or tgram://…"
"""What a refusal names as examples."""
