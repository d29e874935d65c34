"""The architecture, tokenizer and files of `vlmp-tiny`: exactly Qwen2-VL's, at a size that travels with the package."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import GenerationConfig, Qwen2Tokenizer, Qwen2VLConfig
from transformers import Qwen2VLForConditionalGeneration as Qwen2VL
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

CORPUS_SEED = 20
VOCAB_SIZE = 2048  # rows of the embedding; the tokenizer uses fewer, as the real model's does
BPE_SIZE = 1536  # ids below this are the 256 bytes and the merges, ids from here on the special tokens
IMAGE_SIDE = 336
MAX_LENGTH = 4096
SPECIAL_NAMES = (
    "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start quad_end "
    "vision_start vision_end vision_pad image_pad video_pad"
)
SPECIAL_TOKENS = [f"<|{name}|>" for name in SPECIAL_NAMES.split()]
SYSTEM_PROMPT = "You are a helpful assistant."

# The behaviour of Qwen2-VL's template: a default system turn, then content either as a string or as a list of parts.
# No newline follows a block, and so engines that trim it and engines that do not agree.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n{{% endif %}}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif part['type'] == 'video' or 'video' in part %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# Words that fill the {slots} of the sentences below; a sentence is drawn by picking one word for each slot.
LISTS = """\
digit=0,1,2,3,4,5,6,7,8,9
colour=red,green,blue,yellow,orange,purple,pink,brown,black,white,grey,cyan,magenta,golden,silver,beige
shape=circle,square,triangle,rectangle,star,diamond,cross,ring,heart,hexagon,pentagon,oval,arrow,line,cube
thing=cup,spoon,plate,bottle,chair,table,lamp,book,phone,clock,bag,car,bus,bicycle,boat,train,house,door,window,tree
thing=flower,bench,umbrella,hat,shoe,ball,kite,cake,apple,banana,pizza,sandwich,laptop,keyboard,bed,sofa
animal=cat,dog,bird,horse,cow,sheep,elephant,bear,zebra,giraffe,rabbit,duck,fish,butterfly,monkey,lion
person=man,woman,boy,girl,child,baby,student,farmer,cook,driver,player,painter,teacher,worker,tourist
place=kitchen,street,park,beach,garden,room,office,market,station,school,restaurant,forest,mountain,river,bridge
place=museum,library,harbour,airport,stadium,village,city square,field,bedroom,bathroom,shop
side=left,right,top,bottom,centre,middle,top left corner,top right corner,bottom left corner,background
side=bottom right corner,foreground
relation=left of,right of,above,below,next to,behind,in front of,under,on top of,inside,near,between,beside
size=small,large,big,tiny,huge,tall,short,long,wide,narrow,round,flat,thick,thin
count=no,one,two,three,four,five,six,seven,eight,nine,ten,eleven,twelve,several,many,a few
doing=walking,running,sitting,standing,sleeping,eating,drinking,reading,writing,playing,riding,cooking,holding a phone
doing=looking at the camera,smiling,waiting,working,swimming,jumping,talking,singing,dancing
weather=sunny,cloudy,rainy,snowy,windy,foggy,stormy,clear,dark,bright,cold,warm
material=wood,metal,glass,plastic,paper,stone,leather,cotton,brick,concrete,porcelain,rubber
mood=happy,sad,tired,calm,surprised,angry,busy,bored,excited,friendly,serious,curious
time=morning,noon,afternoon,evening,night,sunrise,sunset,spring,summer,autumn,winter
style=in one word,in one sentence,in detail,briefly,step by step,with a number,with yes or no,please
ninth=top left,top,top right,left,centre,right,bottom left,bottom,bottom right
hue=colour,color
tone=red,orange,yellow,green,blue,purple,white,black
form=circle,square,triangle,star,cross,ring
answer=red,orange,yellow,green,blue,purple,white,black,circle,square,triangle,star,cross,ring,yes,no,code
word=about,after,again,against,along,always,among,another,answer,anything,around,back,because,become,before,begin
word=believe,best,better,both,bring,buy,call,care,carry,change,cheap,close,come,common,could,country,deep,describe
word=different,distance,does,done,down,drive,drop,each,early,empty,every,everything,example,explain,eye,face,family,far
word=feel,find,fine,food,foot,fruit,give,go,good,great,hand,hard,have,hear,help,here,hot,hour,important,keep,kind,know
word=language,last,least,less,let,letter,light,like,listen,little,love,low,make,map,maybe,mean,money,more,most,mother
word=move,much,music,name,new,nothing,object,ocean,often,old,only,open,other,page,part,picture,piece,plant,play,point
word=possible,pretty,put,question,rain,ready,real,remember,reply,return,road,roof,row,same,scene,send,separate,shade
word=shirt,should,show,sign,snow,soft,some,speak,stand,start,still,story,sun,swim,take,teach,team,thank,think,through
word=together,tomorrow,true,try,turn,understand,use,useful,very,view,visit,wait,wall,want,watch,water,way,what,wheel
word=where,whether,which,will,wind,within,without,world,would,wrong,year
"""
# Groups of sentences, a question and its answers divided by "|". Those with a {word} bring in general English.
SENTENCES = [
    "What colour is the {thing}?|The {thing} is {colour}.|It is {colour} and {colour}.",
    "What is the colour of the {shape} on the {side}?|{colour}|The {shape} on the {side} is {colour}.",
    "How many {shape}s are there?|There are {count} {shape}s.|{digit}|I count {digit} {shape}s in the image.",
    "How many {animal}s can you see in this picture?|I can see {count} {animal}s.|There is only one {animal}.",
    "Which number is shown?|The number is {digit}{digit}.|{digit}|It shows the digits {digit}, {digit} and {digit}.",
    "What does the sign say?|The sign says '{digit}{digit} {place}'.|It doesn't say anything; the text isn't readable.",
    "Where was this photo taken?|This photo was taken in a {place} in the {time}.|It looks like a {size} {place}.",
    "Where is the {colour} {thing}?|It's {relation} the {thing}.|The {colour} {thing} is in the {side} of the image.",
    "Is there a {thing} in the image?|Yes, there is a {colour} {thing}.|No, there isn't a {thing} in this image.",
    "Is the {colour} {shape} {relation} the {colour} {shape}?|Yes, it is.|No, it's {relation} the {colour} {shape}.",
    "What is the {person} doing?|The {person} is {doing}.|A {mood} {person} is {doing} {relation} a {thing}.",
    "What is the weather like?|It's a {weather} {time}.|The weather seems {weather}, because the sky is {colour}.",
    "Describe the image {style}.|A {size} {colour} {thing} stands {relation} a {thing} made of {material}.",
    "Describe the photo {style}.|The photo shows a {animal} {relation} a {person} who is {doing}.",
    "Which {thing} is larger, the {colour} one or the {colour} one?|The {colour} {thing} is larger than the other.",
    "Can you read the time on the clock?|It's about {digit}:{digit}{digit} in the {time}.|I'm not sure.",
    "Tell me about the {shape}.|This {shape} has a {colour} border and it's {colour} inside, on a {colour} background.",
    "Why does the {person} look {mood}?|Because they've been {doing} all {time}, and they'll go home soon.",
    "Do you {word} or {word}?|I {word} the {word}, but some would {word} instead.|They {word} it {word} and {word}.",
    "What does '{word}' mean?|The word '{word}' isn't the same as '{word}'.|Let's {word}: it wasn't {word} at all!",
    "Could you {word} this, please?|Of course, I'll {word} it for you.|I can't {word} that; we've {word} and {word}.",
    "{answer}|Which digit is at the {ninth}?|What number is at the {ninth}?|What {hue} is the {form}?|Read the code.",
    "Is there a {tone} {form}?|Is there an orange {form}?|What is left of the {form}?|What is above the {form}?",
    "How many {form}s are there?|How many {tone} shapes are there?|How many crosses are there?|List the objects.",
    "{tone} {form}, {digit}, code {digit}{digit}{digit}, {tone} {form}|How many shapes are there?|What is the code?",
    "Thank you! What else is there?|You're welcome. There's a {size} {thing} at the {side}, {relation} the {animal}.",
]


def corpus(draws: int = 20000) -> list[str]:
    """Return the distinct ones of `draws` lines of everyday questions and answers, the tokenizer's training text."""
    slots: dict[str, list[str]] = {}
    for row in LISTS.splitlines():  # a slot may go on over several rows
        slot, words = row.split("=")
        slots[slot] = slots.get(slot, []) + words.split(",")
    rng = random.Random(CORPUS_SEED)
    lines = []
    for _ in range(draws):
        line = rng.choice(rng.choice(SENTENCES).split("|"))
        while "{" in line:
            slot = line[line.index("{") + 1 : line.index("}")]
            line = line.replace(f"{{{slot}}}", rng.choice(slots[slot]), 1)
        lines.append(line[0].upper() + line[1:] if " " in line else line)
    # What the chat template writes is in every prompt, and should cost few tokens.
    # So do the words that answer a scene's questions, each of which shall be one token.
    words = [word for slot in ("answer", "tone", "form") for word in slots[slot]]
    words += [f" {word}{ending}" for word in slots["form"] for ending in ("", "es" if word == "cross" else "s")]
    words += [f" {word}" for word in slots["answer"]]
    return list(dict.fromkeys(lines)) + 200 * ["system", "user", "assistant", SYSTEM_PROMPT] + 300 * words


def write_tokenizer(folder: Path) -> None:
    """Train a byte-level BPE tokenizer with Qwen2's normalizer and split, and write its files in the hub's layout.

    Raises ValueError when the corpus is too poor for `BPE_SIZE` entries, since the special ids would then move.
    """
    parts = Qwen2Tokenizer().backend_tokenizer  # empty: what a Qwen2 tokenizer puts around its merges
    tokenizer, alphabet = Tokenizer(models.BPE()), sorted(ByteLevel.alphabet())
    tokenizer.normalizer, tokenizer.pre_tokenizer = parts.normalizer, parts.pre_tokenizer
    tokenizer.decoder = parts.decoder
    trainer = BpeTrainer(vocab_size=BPE_SIZE, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    if tokenizer.get_vocab_size() != BPE_SIZE:
        raise ValueError(f"the corpus gives {tokenizer.get_vocab_size()} tokens, not {BPE_SIZE}: add words to LISTS")
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    settings: dict[str, Any] = dict(tokenizer_class="Qwen2Tokenizer", processor_class="Qwen2VLProcessor")
    settings |= dict(bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None)
    settings |= dict(additional_special_tokens=SPECIAL_TOKENS, model_max_length=MAX_LENGTH, add_prefix_space=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def write_image_settings(folder: Path) -> None:
    """Write `preprocessor_config.json` in the hub's layout: a square photo becomes 336 x 336, so 144 visual tokens."""
    settings: dict[str, Any] = dict(image_processor_type="Qwen2VLImageProcessor", processor_class="Qwen2VLProcessor")
    settings |= dict(min_pixels=IMAGE_SIDE**2, max_pixels=IMAGE_SIDE**2, image_mean=OPENAI_CLIP_MEAN)
    settings |= dict(image_std=OPENAI_CLIP_STD, patch_size=14, merge_size=2, temporal_patch_size=2)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def build_config() -> Qwen2VLConfig:
    """Return the architecture; the special ids are those that `write_tokenizer` gives."""
    special = {name: BPE_SIZE + index for index, name in enumerate(SPECIAL_NAMES.split())}
    text: dict[str, Any] = dict(vocab_size=VOCAB_SIZE, hidden_size=256, intermediate_size=768, num_hidden_layers=6)
    text |= dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=MAX_LENGTH, rms_norm_eps=1e-6)
    text |= dict(max_window_layers=6, bos_token_id=special["endoftext"], eos_token_id=special["im_end"])
    text |= dict(rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]})
    return Qwen2VLConfig(
        text_config=text,
        vision_config=dict(depth=4, embed_dim=128, num_heads=4, mlp_ratio=4, hidden_size=256),
        tie_word_embeddings=True,
        image_token_id=special["image_pad"],
        video_token_id=special["video_pad"],
        vision_start_token_id=special["vision_start"],
        vision_end_token_id=special["vision_end"],
    )


def write_checkpoint(model: Qwen2VL, folder: Path) -> None:
    """Write weights in float16, config, tokenizer and image settings in the hub's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    write_image_settings(folder)
    bos, eos = model.config.text_config.bos_token_id, model.config.text_config.eos_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=bos, eos_token_id=[eos, bos], pad_token_id=bos, do_sample=False
    )
    # To be saved only: `half` rounds the rotary tables too, which loading computes anew.
    copy.deepcopy(model).half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner only
