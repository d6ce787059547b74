"""What people write on transfers, honest and not, in several languages: sentences put together from alternatives.

Two periods write differently: no sentence of the one occurs in the other, and some words occur in the later one only,
among honest texts as among others. So a detector that learns sentences by heart in the earlier period knows nothing of
the later one. Honest texts use words of dishonest ones ("keep the change", "the rest next week"), and write names of
shops as they are; dishonest ones write them nearly so. The shops are invented.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ops.simulate.ids import stable_number

#: Alternatives for each place in a sentence; the last one of each is of the later period only.
Sentence = tuple[tuple[str, ...], ...]

#: Instructions to a mule: keep a part, send the rest on.
INSTRUCTIONS: tuple[Sentence, ...] = (
    (
        ("keep", "hold back", "take", "retain"),
        ("10 percent", "5 %", "your part", "your commission"),
        ("and forward", "then send", "and pass on", "then wire"),
        ("the rest", "what is left", "the remainder", "the balance"),
        ("today", "by gift cards", "to the wallet", "to the new account", "as crypto"),
    ),
    (
        ("behalte", "nimm dir", "zieh ab", "einbehalten"),
        ("10 Prozent", "deinen Anteil", "5 %", "deine Provision"),
        ("und leite", "und schick", "dann überweise", "danach sende"),
        ("den Rest", "das Übrige", "den Restbetrag", "alles andere"),
        ("weiter", "an die Wallet", "sofort ins Ausland", "als Gutscheine"),
    ),
    (
        ("garde", "retiens", "prends", "conserve"),
        ("10 pour cent", "ta part", "5 %", "ta commission"),
        ("et envoie", "puis transfère", "et fais suivre", "puis vire"),
        ("le reste", "le solde", "ce qui reste", "la différence"),
        ("aujourd'hui", "en crypto", "au nouveau compte", "par coupons"),
    ),
    (
        ("quédate con", "guarda", "retén", "descuenta"),
        ("el 10 por ciento", "tu parte", "el 5 %", "tu comisión"),
        ("y envía", "luego manda", "y transfiere", "y reenvía"),
        ("el resto", "lo demás", "lo que queda", "el saldo"),
        ("hoy", "a la cartera", "por tarjetas regalo", "a la cuenta nueva"),
    ),
    (
        ("zatrzymaj", "weź", "potrąć", "zachowaj"),
        ("10 procent", "swoją część", "5 %", "swoją prowizję"),
        ("i prześlij", "potem wyślij", "i przekaż", "następnie przelej"),
        ("resztę", "to co zostanie", "pozostałą kwotę", "całą różnicę"),
        ("dzisiaj", "na portfel", "na nowe konto", "kartami podarunkowymi"),
    ),
    (
        ("оставь", "возьми", "удержи", "забери"),
        ("10 процентов", "свою долю", "5 %", "свою комиссию"),
        ("и перешли", "потом отправь", "и переведи", "затем перекинь"),
        ("остальное", "остаток", "что останется", "всю разницу"),
        ("сегодня", "на кошелёк", "на новый счёт", "подарочными картами"),
    ),
)
HONEST: tuple[Sentence, ...] = (
    (
        ("rent", "electricity", "school fees", "football club", "insurance", "garden work"),
        ("for", "in", "until"),
        ("march", "april", "summer", "flat 3b", "the new year"),
    ),
    (
        ("keep the change", "the rest next week", "your part of dinner", "today's tickets", "sent from holiday"),
        ("thanks", "as we said", "10 percent tip", "for you and mum", "see you soon"),
    ),
    (("gift card", "commission", "new account", "wallet"), ("for the birthday", "of the agent", "fee", "repair")),
    (
        ("Miete", "Strom", "Nebenkosten", "Schulgeld", "Verein", "Gartenarbeit"),
        ("für", "im", "bis"),
        ("März", "April", "Sommer", "Wohnung 12", "das neue Jahr"),
    ),
    (
        ("Rest folgt nächste Woche", "dein Anteil am Essen", "behalte das Wechselgeld", "heute überwiesen"),
        ("danke", "wie besprochen", "liebe Grüße", "bis bald"),
    ),
    (
        ("loyer", "électricité", "cantine", "cours de danse", "assurance"),
        ("de", "pour"),
        ("mars", "avril", "l'été", "la rentrée"),
    ),
    (("ta part du dîner", "le reste demain", "garde la monnaie", "envoyé hier"), ("merci", "bisous", "à bientôt")),
    (
        ("alquiler", "luz", "colegio", "gimnasio", "seguro"),
        ("de", "para"),
        ("marzo", "abril", "verano", "el año nuevo"),
    ),
    (
        ("tu parte de la cena", "el resto mañana", "quédate el cambio", "lo de ayer"),
        ("gracias", "un abrazo", "nos vemos"),
    ),
    (
        ("czynsz", "prąd", "przedszkole", "siłownia", "składka"),
        ("za", "na"),
        ("marzec", "kwiecień", "lato", "nowy rok"),
    ),
    (
        ("reszta jutro", "twoja część za obiad", "zatrzymaj resztę", "za wczoraj"),
        ("dzięki", "pozdrawiam", "do zobaczenia"),
    ),
    (("аренда", "свет", "школа", "спортзал", "страховка"), ("за", "на"), ("март", "апрель", "лето", "новый год")),
    (("твоя доля за ужин", "остальное завтра", "сдачу оставь", "за вчера"), ("спасибо", "до встречи", "целую")),
)
SHOPS = (
    *("Velora", "Lumina Books", "Kaldomir", "Nordwell", "Alimento", "Brelmont", "Omnicare", "Tallemo"),
    *("Mirabelle", "Ferrolan", "Colmado", "Amelior"),
)
ORDERS: Sentence = (("order", "invoice", "payment", "Bestellung", "commande", "pedido", "receipt"),)


def _in_place_of(letters: str, others: str) -> Callable[[str], str]:
    return lambda name: name.translate(str.maketrans(letters, others))


#: Ways to write a name so that it looks like it.
DISGUISES: tuple[Callable[[str], str], ...] = (
    _in_place_of("lo", "10"),
    _in_place_of("lI", "Il"),
    lambda name: name.replace("m", "rn").replace("l", "I"),
    _in_place_of("ae", "\u0430\u0435"),
    _in_place_of("oc", "\u043e\u0441"),
    lambda name: f"{name[:3]}\u200b{name[3:]}",
    lambda name: f"{name[:2]}{name[3]}{name[2]}{name[4:]}",
    lambda name: f"{name[:-2]}{name[-2]}{name[-2:]}",
)
#: Behind any text, honest or not.
ENDINGS = ("", "", "", " ref {}", " {}", " Anna", " Jonas", " Chloé", " Piotr", " Лена", " Carmen")


@dataclass(frozen=True, slots=True)
class MemoWriter:
    """later: of the later of two periods."""

    draw: np.random.Generator
    later: bool

    def honest(self) -> str:
        """As often an order at a shop as an instruction or a look-alike is among dishonest ones."""
        if self.draw.random() < 0.5:
            return self._ended(self._sentence(HONEST))
        return self._order(self._one(SHOPS))

    def dishonest(self) -> str:
        if self.draw.random() < 0.5:
            return self._ended(self._sentence(INSTRUCTIONS))
        while True:
            shop, way = self._one(SHOPS), int(self.draw.integers(len(DISGUISES)))
            if self._is_own(f"{shop} {way}") and DISGUISES[way](shop) != shop:
                return self._order(DISGUISES[way](shop))

    def _order(self, shop: str) -> str:
        return f"{self._words(ORDERS)} {int(self.draw.integers(1_000, 1_000_000))} {shop}"

    def _ended(self, text: str) -> str:
        return text + self._one(ENDINGS).format(int(self.draw.integers(10, 100_000)))

    def _sentence(self, sentences: Sequence[Sentence]) -> str:
        while True:
            text = self._words(sentences[int(self.draw.integers(len(sentences)))])
            if self._is_own(text):
                return text

    def _words(self, sentence: Sentence) -> str:
        return " ".join(self._one(words if self.later or len(words) == 1 else words[:-1]) for words in sentence)

    def _one(self, alternatives: Sequence[str]) -> str:
        return alternatives[int(self.draw.integers(len(alternatives)))]

    def _is_own(self, text: str) -> bool:
        """Whether this period writes it."""
        return (stable_number(text) % 2 == 1) == self.later
