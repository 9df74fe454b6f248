"""Writes vocabulary.csv: names, ancestors and categories of the ImageNet-1k and COCO-80 classes, out of WordNet 3.0.

    python derive_vocabulary.py /usr/share/wordnet [imagenet_synsets.txt]

The folder is that of the Debian package `wordnet-base`. The list of the 1000 WNIDs may be left out: then those already
in vocabulary.csv are taken. A WNID is `n` and the offset of a noun synset in WordNet 3.0's data.noun; the classes of
ImageNet-1k are numbered in ascending order of their WNIDs.

Every synset has one name: the first of its words, or the one in NAMES or COCO. No two synsets share a name but those of
MERGED; all other tables here go by these names.

The ancestors of a class are its hypernyms along all paths, every one after all that it is an ancestor of, so that the
nearest come first; those in HIDDEN, and its own name, are left out.

Its categories are those that CATEGORIES gives to the class itself, or else, path by path, to the nearest hypernym that
has any, all paths together. What gets none is an everyday object.

The words and the hierarchy are WordNet's; wordnet.py has its licence.
"""

import csv
import re
import sys
from pathlib import Path

OUT = Path(__file__).with_name("vocabulary.csv")
COLUMNS = ("vocabulary", "index", "name", "wnid", "ancestors", "categories")

#: The classes of COCO in the order of its 80-class detectors, with their synsets; `-` and a parent where there is none.
COCO = """
person 00007846, bicycle 02834778, car 02958343, motorcycle 03790512, airplane 02691156, bus 02924116, train 04468005,
truck 04490091, boat 02858304, traffic light 06874185, fire hydrant 03346898, stop sign -street sign,
parking meter 03891332, bench 02828884, bird 01503061, cat 02121808, dog 02084071, horse 02374451, sheep 02411705,
cow 02403454, elephant 02503517, bear 02131653, zebra 02391049, giraffe 02439033, backpack 02769748, umbrella 04507155,
handbag 02774152, tie 03815615, suitcase 02773838, frisbee 03397947, skis 04228054, snowboard 04251791,
sports ball -ball, kite 03621473, baseball bat 02799175, baseball glove 02800213, skateboard 04225987,
surfboard 04363559, tennis racket 04409806, bottle 02876657, wine glass 04592099, cup 03147509, fork 03383948,
knife 03623556, spoon 04284002, bowl 02880940, banana 07753592, apple 07739125, sandwich 07695965, orange 07747607,
broccoli 07714990, carrot 07730207, hot dog 07697537, pizza 07873807, donut 07639069, cake 07628870, chair 03001627,
couch 04256520, potted plant 11536230, bed 02818832, dining table 03201208, toilet 04446521, tv 04405907,
laptop 03642806, mouse 03793489, remote 04074963, keyboard 03085013, cell phone 02992529, microwave 03761084,
oven 03862676, toaster 04442312, sink 04223580, refrigerator 04070727, book 02870092, clock 03046257, vase 04522168,
scissors 04148054, teddy bear 04399382, hair drier 03483316, toothbrush 04453156
"""

#: Names better than the first word: said by more people, or not also the name of something else.
NAMES = """
00019613 relative substance, 01494475 hammerhead shark, 01514668 rooster, 01608432 kite (bird), 01622779 great gray
owl, 01682714 anole, 01694709 monitor lizard, 01817953 African grey parrot, 02012849 crane (bird), 02014941 rail
(bird), 02066245 gray whale, 02086910 papillon (dog), 02088238 basset hound, 02096051 Airedale terrier, 02096177 cairn
terrier, 02096437 Dandie Dinmont terrier, 02096585 Boston terrier, 02097298 Scottish terrier, 02098413 Lhasa apso,
02101556 clumber spaniel, 02105412 kelpie (dog), 02107142 Doberman pinscher, 02108089 boxer (dog), 02111277
Newfoundland dog, 02112137 chow chow, 02113023 Pembroke Welsh corgi, 02113186 Cardigan Welsh corgi, 02114367 gray
wolf, 02120505 gray fox, 02121620 true cat, 02123045 tabby cat, 02134084 polar bear, 02152991 hunted game, 02229544
cricket (insect), 02231487 stick insect, 02276258 admiral (butterfly), 02277742 ringlet (butterfly), 02279972 monarch
butterfly, 02281787 lycaenid butterfly, 02328150 Angora rabbit, 02384858 racing dog, 02389026 sorrel (horse), 02395406
pig, 02486261 patas monkey, 02493509 titi monkey, 02497673 ring-tailed lemur, 02509815 red panda, 02655020 pufferfish,
02704792 amphibious vehicle, 02747177 trash can, 02774630 luggage, 02786058 Band-Aid, 02788148 banister, 02788689 bar
(rod), 02797295 wheelbarrow, 02814533 station wagon, 02814860 lighthouse, 02817516 bearskin (hat), 02820210 bedding,
02840245 ring binder, 02869837 bonnet (hat), 02879718 bow (weapon), 02891788 brass instrument, 02892201 memorial
plaque, 02930766 taxi, 02939185 cauldron, 02954938 cap (lid), 02955065 protective cap, 02959942 railway car, 03014705
chest (box), 03100346 sofa bed, 03100490 transport, 03126707 crane (machine), 03133878 Crock-Pot, 03250847 drumstick
(percussion), 03337140 file cabinet, 03388549 four-poster bed, 03450516 robe, 03492542 hard disk, 03513376 plate
helmet, 03590306 book cover, 03594734 jeans, 03614007 keyboard (any), 03636649 lamp (furniture), 03673027 ocean liner,
03680355 loafer, 03700963 simple machine, 03710721 tank suit, 03725035 protective mask, 03786901 mortar (bowl),
03804744 nail (fastener), 03825788 nipple (of a bottle), 03832673 notebook computer, 03854065 pipe organ, 03877472
pajamas, 03929660 plectrum, 03945615 pipe (instrument), 03947888 pirate ship, 03954731 carpenter's plane, 03956922
industrial plant, 03959701 plate (shell), 03959936 plate (sheet), 03964744 toy, 03991062 flowerpot, 04004475 printing
machine, 04037443 race car, 04038440 stand, 04118776 ruler, 04141076 saxophone, 04151581 screen (partition), 04151940
concealing screen, 04152593 screen (display), 04191943 protective shelter, 04192858 shield (cover), 04243546 slot
machine, 04243941 coin machine, 04272054 eyeglasses, 04325704 stole (scarf), 04359589 support (device), 04367480 mop,
04372370 electric switch, 04388743 storage tank, 04389033 tank (vehicle), 04404412 tv, 04489008 trousers, 04515003
upright piano, 04517823 vacuum cleaner, 04523525 vault (architecture), 04530566 watercraft, 04531098 vessel
(container), 04554684 washing machine, 04580298 household linen, 04592741 wing (aircraft), 04606251 shipwreck,
06359193 website, 06874019 signal light, 07557434 prepared dish, 07579787 plate (of food), 07613480 trifle (dessert),
09214060 bar (of sand), 09214581 natural barrier, 09349797 natural mechanism, 09835506 baseball player, 10148035
bridegroom, 12620546 rose hip, 12768682 buckeye (seed), 13133613 ear (of grain), 13809207 relative part, 13899404
globe, 15075141 toilet paper
"""

#: Names that several synsets may share: WordNet tells apart what a reader of labels does not.
MERGED = {"cloak", "cup", "food", "footwear", "robe", "table", "tv"}

#: Where ImageNet's pictures show another sense of the word than their WNID's: the synset whose hypernyms they take.
SHOWS = {
    "03045698": "03045337",  # cloak: the garment, not anything that conceals
    "03710637": "03710721",  # maillot: the swimsuit, not a dancer's tights
    "03933933": "03933529",  # pier: into the water, not of a bridge
    "04355933": "04356056",  # sunglass: sunglasses, not a burning glass
    "04404412": "04405907",  # television: the set, not the system
    "07565083": "06492939",  # menu: the printed one, not the dishes
    "07930864": "03147509",  # cup: the vessel, not a punch
}

#: Hypernyms that replace WordNet's, where those mislead or leave out what everyone would ask for.
PARENTS = {
    "airship": "aircraft",
    "armor plate": "armor",
    "ball": "game equipment, sports equipment",
    "bathtub": "plumbing fixture, container",
    "bib": "piece of cloth, clothing",
    "birdhouse": "shelter",
    "book": "publication",
    "bulbul": "passerine",
    "bus": "public transport, motor vehicle",
    "castle": "fortification, building",
    "chain": "fastener",
    "Christmas stocking": "decoration",
    "cistern": "storage tank",
    "computer": "machine, electronic equipment",
    "corn": "kernel, vegetable",
    "face powder": "makeup",
    "fodder": "",
    "frisbee": "toy",
    "giant panda": "bear",
    "handbag": "bag",
    "home theater": "electronic equipment",
    "lifting device": "machine",
    "maze": "structure",
    "meat loaf": "prepared dish",
    "motor scooter": "motor vehicle",
    "mouse": "electronic device, data input device",
    "moving van": "van, truck",
    "mushroom": "vegetable, fungus",
    "pickelhaube": "helmet, armor",
    "bell cote": "structure",
    "pillow": "cushion, bedding",
    "platform": "structure",
    "prison": "correctional institution, building",
    "puck": "sports equipment",
    "punching bag": "sports equipment",
    "radio": "receiver",
    "recreational vehicle": "motor vehicle",
    "remote": "control, electronic device",
    "ring binder": "container",
    "rocket": "projectile",
    "roof": "structure",
    "safety belt": "device",
    "shoji": "screen (partition)",
    "skateboard": "board, sports equipment, wheeled vehicle",
    "skis": "sports equipment",
    "slide rule": "calculator",
    "snowboard": "board, sports equipment",
    "sports implement": "sports equipment, implement",
    "streetcar": "public transport, self-propelled vehicle",
    "surfboard": "board, sports equipment",
    "table lamp": "lamp, furniture",
    "toilet seat": "plumbing fixture",
    "train": "public transport, vehicle",
    "van": "motor vehicle",
    "warplane": "airplane, military vehicle",
    "washbasin": "basin, plumbing fixture",
    "water tower": "tower, reservoir",
    "website": "publication",
    "wheeled vehicle": "vehicle",
    "wild sheep": "sheep",
}

#: Synsets that are never given as ancestors: too general to part one picture from another, ranks that only a
#: taxonomist would ask for, and what is true of the word but not of the picture (wine as a "drug of abuse").
HIDDEN = """
entity, physical entity, abstraction, object, whole, matter, solid, fluid, liquid, substance, relative substance,
relation, relative part, part, piece, causal agent, agent, attribute, shape, round shape, communication, location,
point, geographic point, organism, natural object, natural mechanism, artifact, article, ware, instrumentality,
instrument, commodity, consumer goods, durables, drygoods, white goods, creation, product, work, medium, covering,
protective covering, cloth covering, system, sheet, area, obstruction, supporting structure, vessel (container),
household linen, protective shelter, support (device), bar (rod), bar (of sand), cap (lid), pipe (instrument), book
cover, printing machine, compound lever, visual signal, autoloader, electro-acoustic transducer, transducer, emblem,
design, self-propelled vehicle, craft, heavier-than-air craft, lighter-than-air craft, restraint, way, passage,
conduit, simple machine, mechanism, adornment, set, signal, press, mechanical device, material, information, message,
database, upright, structural member, rig, gear, reproducer, contestant, peer, bill, associate, participant, drug,
drug of abuse, nutriment, foodstuff, starches, ingredient, flavorer, concoction, plant part, plant organ, reproductive
structure, vascular plant, spermatophyte, angiosperm, kernel, pome, solanaceous vegetable, chordate, placental,
prototherian, metatherian, aquatic vertebrate, anapsid, diapsid, chelonian, saurian, archosaur, ornithischian,
ceratopsian, iguanid, teiid lizard, keyboard (any), agamid, anguid lizard, lacertid lizard, colubrid snake, elapid,
ambystomid, soft-finned fish, cypriniform fish, teleost fish, spiny-finned fish, percoid fish, elasmobranch,
scorpaenoid, scorpaenid, plectognath, ganoid, oscine, cuculiform bird, coraciiform bird, apodiform bird, piciform
bird, anseriform bird, pelecaniform seabird, sphenisciform seabird, gallinaceous bird, phasianid, hunted game,
acarine, malacostracan crustacean, anthozoan, lamellicorn beetle, dictyopterous insect, homopterous insect, phasmid,
neuropteron, lepidopterous insect, hymenopterous insect, dipterous insect, orthopterous insect, nymphalid, danaid,
pierid, lagomorph, leporid, edentate, proboscidean, pachyderm, bovid, odd-toed ungulate, viverrine, procyonid, true
cat, anthropoid ape, racing dog
"""

#: Category by category, the names it goes to: classes, and ancestors, hidden ones too. A name takes the place of what
#: would come from above it, with `+` it adds to that; both hold for everything below it. Categories without a name are
#: those that no class of these two vocabularies shows.
CATEGORIES = {
    "Animals and Pets": "animal, +apiary, +birdhouse, honeycomb, spider web, muzzle",
    "Apparel and Accessories": """clothing, footwear, headdress, jewelry, adornment, bag, handbag, wallet,
        umbrella, buckle, eyeglasses, hair slide, mask, protective mask, handkerchief, holster, thimble, +watch,
        +suitcase""",
    "Beauty and Personal Care": """toiletry, hair slide, +wig, diaper, +bath towel, +shower cap, Band-Aid,
        +toilet paper, soap dispenser, +hair drier, +barber chair, +barbershop""",
    "Buildings and Architecture": """structure, scoreboard, +greenhouse, patio, window screen, shoji,
        manhole cover, +mobile home, +drilling platform, water tower""",
    "Damage Detection": "+shipwreck",
    "Education": """abacus, slide rule, +academic gown, +mortarboard, +library, +planetarium, pencil box,
        pencil sharpener, rubber eraser, ruler, loupe, +school bus""",
    "Events and Attractions": """carousel, maypole, jack-o'-lantern, Christmas stocking, +cinema, +planetarium,
        +bridegroom, +fountain""",
    "Everyday Objects": """container, lamp, source of illumination, fastener, timepiece, umbrella, fabric,
        lighter, matchstick, candle, cleaning implement, trap, loupe, binoculars, crutch, pole, flagpole,
        tripod, thimble, filter, whistle, hook, coil, scissors, lens cap, top, parachute, handkerchief,
        electric fan, kit, key, screen (partition), plastic bag, shopping cart, bottle, pill bottle""",
    "Food and Beverage": """food, beverage, cardoon, +corn, +restaurant, +bakery, +butcher shop, +confectionery,
        +grocery store, menu, +beer bottle, +wine bottle, +pop bottle, +beer glass, +wine glass, +coffee mug,
        +espresso maker, +coffeepot, +teapot, +plate (of food), +rapeseed, edible fruit, apple, honeycomb""",
    "Furniture and Furnishings": """furniture, furnishing, cushion, bedding, doormat, lampshade, blind,
        +wall clock, fire screen, +shoji, +vase, +table lamp""",
    "Health and Fitness": "+gymnastic apparatus, +weight, +punching bag, +sunscreen, scale, +running shoe",
    "Hobbies and Interests": """musical instrument, reel, potter's wheel, paintbrush, +book, +canoe, binoculars,
        plectrum, +sewing machine, +camera, +puzzle, +crossword puzzle, +comic book, +kite, +bicycle, spindle""",
    "Home and Indoors": """plumbing fixture, tub, toilet paper, paper towel, +bath towel, +curtain, +blind,
        dishrag, soap dispenser, plunger, +entertainment center, radiator, +tv, +home theater, +medicine chest,
        +bedding, electric fan, space heater, +vase, electric switch, +bed, +baby bed, +couch, +potted plant,
        +wall clock, doormat, +lampshade, +table lamp, +wardrobe, +bookcase, piggy bank, +cleaning implement,
        window screen, stove, +fire screen, +dining table, +pillow, +iron, +washing machine, +vacuum cleaner,
        +hamper, bathtub, washbasin""",
    "Home Appliances": "appliance, electric fan, space heater, stove",
    "Kitchen and Dining": """+kitchen appliance, kitchen utensil, tableware, cutlery, glass, drinking vessel,
        stove, knife, +dining table, +restaurant, pitcher, cocktail shaker, saltshaker, corkscrew, can opener,
        measuring cup, strainer, ladle, plate rack, milk can, bottlecap, cleaver, dishrag, paper towel, tray,
        mortar (bowl), china cabinet, +refrigerator, +dishwasher, bottle, +plate (of food)""",
    "Materials": "+velvet, +wool, +thatch, +stone wall, +chain",
    "Medical": """medical instrument, Band-Aid, stretcher, crutch, neck brace, +medicine chest, oxygen mask,
        beaker, Petri dish, +ambulance, +lab coat, syringe, stethoscope, pill bottle""",
    "Nature and Outdoors": """geological formation, bubble, hay, fungus, spider web, +mountain tent,
        +coral reef, +brain coral, +lakeside""",
    "Offices and Workspaces": """+office furniture, +desk, writing implement, envelope, ring binder, +printer,
        +photocopier, pencil box, pencil sharpener, rubber eraser, ruler, letter opener, typewriter keyboard,
        +desktop computer, packet""",
    "Patterns and Shapes": "+maze, coil",
    "Performing Arts": """+musical instrument, +theater, +stage, theater curtain, plectrum,
        drumstick (percussion), +microphone, +spotlight""",
    "Person Description": "person",
    "Plants and Flowers": "plant, plant part, fungus, +mushroom, +greenhouse, flowerpot, +vase, hay",
    "Popular Landmarks": "+triumphal arch, +obelisk, +megalith",
    "Profession": "+baseball player, +scuba diver, +lab coat, +barbershop",
    "Public Safety": """+ambulance, +fire engine, +police van, +fireboat, +lifeboat, +traffic light, +sign,
        fire hydrant, +seat belt, +crash helmet, +bulletproof vest, +gasmask, +prison, +lighthouse, parachute,
        safe, combination lock, padlock""",
    "Religion": "+place of worship, +altar, +vestment, +prayer rug, +monastery, +totem pole, +bell cote",
    "Sports": """sports equipment, +bathing cap, snorkel, paddle, +scoreboard, +knee pad, +football helmet,
        +ski mask, +running shoe, +golfcart, +race car, +bobsled, +dogsled, +go-kart, +pool table, +canoe,
        frisbee, +mountain bike, +skateboard, +bow (weapon), +swimsuit, +stopwatch, +whistle, +athlete, +diver""",
    "Symbols and Flags": "+sign, +totem pole, flagpole, +memorial plaque",
    "Technology and Computing": """electronic equipment, electronic device, electrical device, memory device,
        website, photographic equipment, telescope, oscilloscope, cash machine, projector, solar dish,
        space bar, typewriter keyboard, cassette, remote, computer, +space shuttle, electric switch,
        photocopier, printer""",
    "Text and Documents": "publication, book, menu, website, crossword puzzle, book jacket, +sign, envelope",
    "Tools and Machinery": """tool, machine, screw, nail (fastener), hook, carpenter's kit, wheelbarrow,
        +tractor, +forklift, +harvester, +thresher, +snowplow, ladle, measuring instrument, +drilling platform,
        +vending machine""",
    "Toys and Gaming": "game equipment, toy, slot machine, pinwheel, frisbee, piggy bank, +joystick, +toyshop",
    "Transport and Logistics": """+craft, +locomotive, +public transport, +truck, +railway car, +cart, +taxi,
        +forklift, traffic light, +street sign, parking meter, gas pump, +pier, +dock, +bridge, crate, carton,
        mailbag, mailbox""",
    "Travel and Adventure": """suitcase, mountain tent, sleeping bag, seashore, +alp, +snorkel, binoculars,
        +recreational vehicle, +yurt, +ocean liner, magnetic compass, +scuba diver, +backpack, +balloon""",
    "Vehicles and Automotive": """vehicle, public transport, car wheel, car mirror, disk brake, grille,
        seat belt, odometer, oil filter, wing (aircraft), gas pump, parking meter, paddlewheel""",
    "Weapons and Military": """weapon, armor, +military vehicle, +military uniform, +holster, scabbard,
        +pickelhaube, +castle, +bulletproof vest, guillotine, +bearskin (hat), +half track""",
}


def split(text: str) -> list[str]:
    return [" ".join(entry.split()) for entry in text.split(",") if entry.strip()]


def read_nouns(folder: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """By offset: the first word of each noun synset, and its hypernyms (also those of which it is an instance)."""
    words, hypernyms = {}, {}
    with open(folder / "data.noun", encoding="latin-1") as lines:
        for line in lines:
            if line.startswith(" "):  # the licence, above the data
                continue
            fields = line.partition(" | ")[0].split()
            pointers = fields[5 + 2 * int(fields[3], 16) :]  # behind the words: symbol, offset, and two more, each
            words[fields[0]] = fields[4].replace("_", " ")
            hypernyms[fields[0]] = [
                to for symbol, to in zip(pointers[::4], pointers[1::4], strict=False) if symbol in ("@", "@i")
            ]
    return words, hypernyms


def name_parents(
    classes: list[tuple[str, str]], names: dict[str, str], above: dict[str, list[str]]
) -> dict[str, list[str]]:
    """The parents of every class and of all that is above one, by name.

    A class is its name and its offset, or its name and its parent's. Exits where a table is at odds with WordNet.
    """
    parents: dict[str, list[str]] = {}
    offset_of: dict[str, str] = {}
    todo = [offset for _, offset in classes if offset.isdigit()]
    while todo:
        offset = todo.pop()
        name = names[offset]
        if offset_of.setdefault(name, offset) != offset and name not in MERGED:
            sys.exit(
                f"two synsets are named {name!r}: {offset_of[name]}, {offset}; name one in NAMES, or add to MERGED"
            )
        kept = split(PARENTS[name]) if name in PARENTS else None
        found = [one for one in above[SHOWS.get(offset, offset)] if kept is None or names[one] in kept]
        parents[name] = list(dict.fromkeys([*parents.get(name, []), *(names[one] for one in found)]))
        todo += found
    parents |= {name: split(text) for name, text in PARENTS.items()}
    parents |= {name: [parent] for name, parent in classes if not parent.isdigit()}
    used = {one for some in parents.values() for one in some} | set(split(HIDDEN)) | MERGED
    used |= {one.lstrip("+") for text in CATEGORIES.values() for one in split(text)}
    if unknown := sorted(used - set(parents)):
        sys.exit(f"no class, and nothing above one, has these names: {', '.join(unknown)}")
    return {name: [one for one in found if one != name] for name, found in parents.items()}


def ancestors(name: str, parents: dict[str, list[str]]) -> list[str]:
    """All that is above `name`, every one after all that it is above of."""
    found: list[str] = []
    level = [name]
    while level:
        level = list(dict.fromkeys(parent for below in level for parent in parents[below]))
        found = [one for one in found if one not in level] + level
    return found


def categories(name: str, parents: dict[str, list[str]]) -> set[str]:
    own = {category for category, text in CATEGORIES.items() if name in split(text)}
    more = {category for category, text in CATEGORIES.items() if f"+{name}" in split(text)}
    return more | (own or {category for parent in parents[name] for category in categories(parent, parents)})


def main(folder: Path, wnid_list: Path | None = None) -> None:
    if wnid_list:
        wnids = wnid_list.read_text().split()
    else:
        with open(OUT, encoding="utf-8", newline="") as file:
            wnids = [row["wnid"] for row in csv.DictReader(file) if row["vocabulary"] == "imagenet"]
    if len(wnids) != 1000 or wnids != sorted(set(wnids)):
        sys.exit(f"{wnid_list or OUT}: expected the 1000 WNIDs of ImageNet-1k in ascending order, read {len(wnids)}")

    words, above = read_nouns(folder)
    coco = [(name, at) for name, at in (re.split(r" -| (?=\d)", entry) for entry in split(COCO))]
    names = (
        words | dict(entry.split(" ", 1) for entry in split(NAMES)) | {at: name for name, at in coco if at.isdigit()}
    )
    imagenet = [(names[wnid[1:]], wnid[1:]) for wnid in wnids]
    parents = name_parents(imagenet + coco, names, above)
    hidden = set(split(HIDDEN))
    with open(OUT, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for vocabulary, some in (("imagenet", imagenet), ("coco", coco)):
            for index, (name, offset) in enumerate(some):
                wnid = f"n{offset}" if offset.isdigit() else ""
                shown = [one for one in ancestors(name, parents) if one not in hidden]
                given = sorted(categories(name, parents)) or ["Everyday Objects"]
                rows.writerow((vocabulary, index, name, wnid, ";".join(shown), ";".join(given)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
